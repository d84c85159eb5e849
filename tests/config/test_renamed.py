"""The hints for users of other trainers are true: what they advise exists, what they advise against does not."""

import re

import pytest

from codelm.config.load import SCHEMAS
from codelm.config.renamed import LANGUAGE_ALIASES, RENAMED, VALUES
from codelm.config.shape import every_key, shape
from codelm.languages import LANGUAGES

ADVICE = [(kind, key, advice) for kind, table in RENAMED.items() for key, advice in table.items()]


def known_keys(kind: str) -> set[str]:
    return {".".join(map(str, path)) for path, _ in every_key(SCHEMAS[kind])}


@pytest.mark.parametrize(("kind", "key", "advice"), ADVICE, ids=[f"{kind}-{key}" for kind, key, _ in ADVICE])
def test_advice_names_keys_that_exist_in_place_of_one_that_does_not(kind, key, advice):
    known = known_keys(kind)
    assert key not in known
    for named in re.findall(r"`([a-z_]\w*(?:\.[\w<>]+)*)", advice):
        assert named in known, named


def test_advised_values_are_choices_of_some_key():
    choices = {
        choice
        for schema in SCHEMAS.values()
        for _, field in every_key(schema)
        for choice in shape(field.annotation).choices
    }
    for values in VALUES.values():
        assert set(values) <= choices


def test_language_aliases_lead_to_languages():
    assert set(LANGUAGE_ALIASES.values()) <= LANGUAGES.keys()
    assert not LANGUAGE_ALIASES.keys() & LANGUAGES.keys()


def test_llm_foundrys_habits_are_understood(write, problems):
    path = write(
        "x.yaml",
        """
        variables: {data_local: x}
        train_loader: {name: text}
        eval_loader: {name: text}
        learning_rate: 1e-4
        max_seq_length: 512
        batch_size: 8
        model: {name: mpt_causal_lm, n_layer: 4}
        optimizer: {name: decoupled_lionw, lr: 1e-4}
        scheduler: {name: linear_decay_with_warmup}
        precision: bf16
        """,
    )
    unknown = [line for line in problems("train", path) if "is missing" not in line]
    assert unknown == [
        "x.yaml:1:1: variables: unknown key; there is no such section; write each key where it is used, and refer to it"
        " with `${section.key}`",
        "x.yaml:2:1: train_loader: unknown key; the section is `train_data` (path, mixture); the batch size is"
        " `global_train_batch_size`",
        "x.yaml:3:1: eval_loader: unknown key; the section is `eval_data`, a mapping of named sets",
        "x.yaml:4:1: learning_rate: unknown key; write `optimizer.lr`",
        "x.yaml:5:1: max_seq_length: unknown key; write `max_seq_len`",
        "x.yaml:6:1: batch_size: unknown key; write `global_train_batch_size` (samples in an optimizer step, over all"
        " ranks)",
        "x.yaml:7:9: model.name: `mpt_causal_lm` is none of replit_code, hf_causal_lm; did you mean `replit_code`?",
        "x.yaml:7:30: model.n_layer: unknown key; write `model.n_layers`",
        "x.yaml:8:13: optimizer.name: `decoupled_lionw` is none of lionw, adamw; did you mean `lionw`?",
        "x.yaml:9:13: scheduler.name: `linear_decay_with_warmup` is none of cosine_with_warmup, linear_with_warmup,"
        " constant_with_warmup, inv_sqrt_with_warmup, wsd; did you mean `linear_with_warmup`?",
        "x.yaml:10:1: precision: `bf16` is none of auto, fp32, amp_bf16; did you mean `amp_bf16`?",
    ]
