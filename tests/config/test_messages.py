"""Every kind of mistake gives one line: place, key, what is wrong, what to write."""

import pytest

from codelm.config import load_config
from codelm.errors import ConfigError

SMALL_IS_FINE = pytest.mark.parametrize("kind", ["train", "data", "eval"])


@SMALL_IS_FINE
def test_a_right_file_loads(kind, write):
    assert load_config(kind, write("x.yaml", kind)).run_name == "small"


def test_all_problems_are_reported_at_once_in_the_order_of_the_file(write, problems):
    write("base.yaml", "train")
    child = write(
        "runs/bad.yaml",
        """
        extends: ../base.yaml
        max_sequence_length: 12
        learning_rate: 3
        model:
          n_layer: 3
          attn_config:
            alibi: 1
        train_data:
          mixture:
            pyhton: 1.0
            C++: -3
        optimizer:
          name: adamv
          lr: abc
        max_duration: 100
        seed: 1e3
        seeed: 3
        callbacks:
          code_eval: {intervall: 3ba, tasks: {humaneval: {temperature: -4}}}
        """,
    )
    assert problems("train", child, "optimizer.weight_decay=much", "+a=3") == [
        "runs/bad.yaml:2:1: max_sequence_length: unknown key; write `max_seq_len`",
        "runs/bad.yaml:3:1: learning_rate: unknown key; write `optimizer.lr`",
        "runs/bad.yaml:5:3: model.n_layer: unknown key; write `model.n_layers`",
        "runs/bad.yaml:7:5: model.attn_config.alibi: should be true or false, not the number 1; write true",
        "runs/bad.yaml:10:5: train_data.mixture.pyhton: `pyhton` is none of the 20 languages; did you mean `python`?",
        "runs/bad.yaml:11:5: train_data.mixture.C++: `C++` is none of the 20 languages; did you mean `cpp`?",
        "runs/bad.yaml:11:5: train_data.mixture.C++: should be at least 0 (got -3)",
        "runs/bad.yaml:13:3: optimizer.name: `adamv` is none of lionw, adamw; did you mean `adamw`?",
        "runs/bad.yaml:14:3: optimizer.lr: should be a number, not the text `abc`",
        "runs/bad.yaml:15:1: max_duration: 100 has no unit; write 100ba (batches), 100ep (epochs) or 100tok (tokens)",
        "runs/bad.yaml:16:1: seed: should be a whole number, not the number 1000.0; write 1000",
        "runs/bad.yaml:17:1: seeed: unknown key; did you mean `seed`?",
        "runs/bad.yaml:19:15: callbacks.code_eval.intervall: unknown key; did you mean `interval`?",
        "runs/bad.yaml:19:51: callbacks.code_eval.tasks.humaneval.temperature: should be at least 0 (got -4)",
        "command line `optimizer.weight_decay=much`: optimizer.weight_decay: should be a number, not the text `much`",
        "command line `+a=3`: no plus sign is needed; write a=3",
    ]


ONE_LINE = [
    # unknown keys
    ("train", "modle: 3", "modle: unknown key; did you mean `model`?"),
    ("train", "Max-Seq-Len: 3", "Max-Seq-Len: unknown key; did you mean `max_seq_len`?"),
    ("train", "alpha_f: 0.1", "alpha_f: unknown key here; it belongs to `scheduler`"),
    ("train", "frobnicate_it: 3", "frobnicate_it: unknown key; --schema lists all keys with what they mean"),
    ("train", "learnin_rate: 3", "learnin_rate: unknown key; write `optimizer.lr`"),
    ("data", "vocab_size: 3", "vocab_size: unknown key; write `tokenizer.train.vocab_size`"),
    ("eval", "sandbox: {timeout: 3}", "sandbox.timeout: unknown key; write `sandbox.wall_seconds`"),
    (
        "eval",
        "sandbox: {zzzzzz: 3}",
        "sandbox.zzzzzz: unknown key; the keys here are wall_seconds, cpu_seconds,"
        " memory_bytes, output_bytes, min_level, num_workers",
    ),
    ("eval", "sandbox: {seed: 3}", "sandbox.seed: unknown key here; it belongs to the top level"),
    ("eval", "sandbox: {extends: x.yaml}", "sandbox.extends: unknown key; `extends` stands at the top of a file only"),
    # types
    (
        "train",
        "eval_first: 'true'",
        "eval_first: should be true or false, not the text `true`; remove the quotes (of an"
        " environment variable: ${oc.decode:${oc.env:NAME}})",
    ),
    (
        "train",
        "seed: '3'",
        "seed: should be a whole number, not the text `3`; remove the quotes (of an environment"
        " variable: ${oc.decode:${oc.env:NAME}})",
    ),
    ("train", "seed: true", "seed: should be a whole number, not the boolean true"),
    ("train", "seed: 1.5", "seed: should be a whole number, not the number 1.5"),
    ("train", "seed: null", "seed: should be a whole number, not null (nothing)"),
    ("train", "seed: .nan", "seed: should be a whole number, not the number NaN"),
    ("train", "load_path: 2024", 'load_path: should be a text, not the number 2024; write it in quotes: "2024"'),
    ("train", "algorithms: [1]", "algorithms: should be a section (keys indented below it), not a list"),
    ("train", "eval_data: x", "eval_data: should be a section (keys indented below it), not the text `x`"),
    ("data", "languages: python", "languages: should be a list, such as [a, b], not the text `python`; write [python]"),
    ("data", "shard_bytes: 64MB", "shard_bytes: should be a whole number, not the text `64MB`; write 64_000_000"),
    ("data", "shard_bytes: 64Mi", "shard_bytes: should be a whole number, not the text `64Mi`; write 67_108_864"),
    ("data", "shard_bytes: '1,000'", "shard_bytes: should be a whole number, not the text `1,000`; write 1_000"),
    # ranges
    ("train", "seed: -1", "seed: should be at least 0 (got -1)"),
    ("data", "shard_bytes: 0", "shard_bytes: should be more than 0 (got 0)"),
    ("data", "split: {validation: 1}", "split.validation: should be less than 1 (got 1)"),
    ("data", "split: {validation: .inf}", "split.validation: should be a finite number (got Infinity)"),
    # choices
    ("train", "precision: bf16", "precision: `bf16` is none of auto, fp32, amp_bf16; did you mean `amp_bf16`?"),
    ("train", "device: cuda", "device: `cuda` is none of auto, cpu, gpu; did you mean `gpu`?"),
    ("train", "device: 3", "device: the number 3 is none of auto, cpu, gpu"),
    ("train", "fsdp_config: {version: 3}", "fsdp_config.version: the number 3 is none of 1, 2"),
    ("train", "fsdp_config: {version: '2'}", "fsdp_config.version: the text `2` is none of 1, 2"),
    ("data", "languages: [python, js]", "languages[1]: `js` is none of the 20 languages; did you mean `javascript`?"),
    (
        "data",
        "languages: [Jupyter Notebook]",
        "languages[0]: `Jupyter Notebook` is none of the 20 languages; did you mean `jupyter`?",
    ),
    ("data", "languages: []", "languages: names no language, so nothing would be kept; write null for all 20"),
    (
        "data",
        "secrets: {ignore: [emial]}",
        "secrets.ignore[0]: `emial` is none of the 46 that there are; did you mean `email`?",
    ),
    (
        "data",
        "secrets: {policy: off}",
        "secrets.policy: the boolean false is none of redact, drop-file, report, off; YAML reads off as false, so"
        ' write "off" in quotes',
    ),
    # licences
    (
        "data",
        "sources: {here: {licence: MTI}}",
        "sources.here.licence: `MTI` is no SPDX licence id; did you mean `MIT`?",
    ),
    (
        "data",
        "sources: {here: {licence: MIT OR BSD3-Clause}}",
        "sources.here.licence: `BSD3-Clause` is no SPDX licence id; did you mean `BSD-3-Clause`?",
    ),
    (
        "data",
        "sources: {here: {licence: Our terms}}",
        "sources.here.licence: `Our terms` is no SPDX licence id; write LicenseRef-<name> for a licence that SPDX does"
        " not list",
    ),
    ("data", "licences: {keep: [MTI]}", "licences.keep[0]: `MTI` is no SPDX licence id; did you mean `MIT`?"),
    (
        "data",
        "licences: {keep: [MIT OR ISC]}",
        "licences.keep[0]: `MIT OR ISC` is more than one licence; list each by itself",
    ),
    (
        "data",
        "licences: {keep: permisive}",
        "licences.keep: `permisive` is neither a list nor one of all, permissive; did you mean `permissive`?",
    ),
    # kinds of sources
    ("data", "sources: {hub: {nam: hf, hf_name: x}}", "sources.hub.nam: unknown key; did you mean `name`?"),
    ("data", "sources: {here: {pth: x}}", "sources.here.pth: unknown key; did you mean `path`?"),
    (
        "data",
        "sources: {rows: {files: [x.jsonl]}}",
        "sources.rows.name: is missing; it chooses what the section is: code, records, hf, instructions",
    ),
    # durations
    (
        "train",
        "eval_interval: 10 ba",
        "eval_interval: `10 ba` is no duration; write a number and a unit, such as 100ba, 2ep or 5e9tok",
    ),
    ("train", "eval_interval: 0ba", "eval_interval: `0ba` must be more than zero"),
    ("train", "eval_interval: 1.5ba", "eval_interval: `1.5ba` is not a whole number of ba"),
]


@pytest.mark.parametrize(("kind", "line", "message"), ONE_LINE, ids=[line for _, line, _ in ONE_LINE])
def test_one_mistake_gives_one_line(kind, line, message, write, problems):
    base = write("base.yaml", kind)
    assert problems(kind, base) == []
    found = problems(kind, write("x.yaml", f"extends: base.yaml\n{line}\n"))
    assert len(found) == 1, found
    place, _, text = found[0].partition(": ")
    assert text == message
    assert place.startswith("x.yaml:2:")


MIXTURES = [
    (
        "natrual",
        "`natrual` is neither shares by language ({python: 1.0, …}) nor one of corpus, natural, replit-order;"
        " did you mean `natural`?",
    ),
    ("[python]", "a list is neither shares by language ({python: 1.0, …}) nor one of corpus, natural, replit-order"),
    (
        "null",
        "null (nothing) is neither shares by language ({python: 1.0, …}) nor one of corpus, natural, replit-order",
    ),
    ("{}", "a mixture needs at least one language with a share above 0"),
    ("{python: 0}", "a mixture needs at least one language with a share above 0"),
]


@pytest.mark.parametrize(("value", "message"), MIXTURES)
def test_a_wrong_mixture_gives_one_line_too(value, message, write, problems):
    write("base.yaml", "train")
    child = write("x.yaml", f"extends: base.yaml\ntrain_data:\n  mixture: {value}\n")
    assert problems("train", child) == [f"x.yaml:3:3: train_data.mixture: {message}"]


def test_a_missing_key_is_reported_where_its_section_stands_and_says_what_it_is(write, problems):
    path = write(
        "x.yaml",
        """
        run_name: x
        model: {path: here}

        tasks: {humaneval: {}}
        """,
    )
    assert problems("eval", path) == ["x.yaml:1:1: output_folder: is missing"]
    train = problems("train", write("y.yaml", "run_name: x\noptimizer:\n  name: lionw\n"))
    assert "y.yaml:2:1: optimizer.lr: is missing" in train
    assert "y.yaml:1:1: max_seq_len: is missing (Tokens in a sample; must be the length of the shards)" in train


def test_a_misspelt_required_key_is_not_also_called_missing(write, problems):
    path = write("x.yaml", "run_name: x\nmodel: {path: here}\ntasks: {humaneval: {}}\noutput_foldr: y\n")
    assert problems("eval", path) == ["x.yaml:4:1: output_foldr: unknown key; did you mean `output_folder`?"]


def test_a_section_without_its_name_says_which_there_are(write, problems):
    write("base.yaml", "train")
    missing = write("x.yaml", "extends: base.yaml\nscheduler: null\n")
    assert problems("train", missing) == []
    path = write("y.yaml", "run_name: x\noptimizer: {lr: 1e-4, weight_decai: 1}\nmodel: replit_code\n")
    found = problems("train", path)
    assert "y.yaml:2:1: optimizer.name: is missing; it chooses what the section is: lionw, adamw" in found
    assert "y.yaml:2:23: optimizer.weight_decai: unknown key; did you mean `weight_decay`?" in found
    assert "y.yaml:3:1: model: should be a section (keys indented below it), not the text `replit_code`" in found


def test_faults_between_keys_stand_at_the_key_they_speak_of(write, problems):
    write("base.yaml", "train")
    path = write("x.yaml", "extends: base.yaml\nmodel:\n  n_heads: 7\n")
    assert problems("train", path) == ["x.yaml:3:3: model: d_model 128 is not divisible by n_heads 7"]
    path = write("x.yaml", "extends: base.yaml\nglobal_train_batch_size: 6\n")
    assert problems("train", path) == [
        "x.yaml:2:1: global_train_batch_size 6 is not divisible by device_train_microbatch_size 4"
    ]
    write("data.yaml", "data")
    path = write("x.yaml", "extends: data.yaml\ntokenizer: {path: there}\n")
    assert problems("data", path) == [
        "x.yaml:2:13: tokenizer: give either `path` (an existing tokenizer) or `train` (train one on this corpus)"
    ]


def test_an_empty_section_takes_its_defaults(write):
    write("base.yaml", "train")
    path = write("x.yaml", "extends: base.yaml\ncallbacks:\n  # code_eval: {}\nfsdp_config:\neval_data:\n")
    config = load_config("train", path)
    assert config.callbacks.code_eval is None
    assert config.fsdp_config is None
    assert config.eval_data == {}


NULLS = {
    "dedup": "{exact: false, near: null}",
    "secrets": '{policy: "off", personal: "off"}',
    "decontamination": "{benchmarks: []}",
    "licences": "{detect: false}",
    "split": "{validation: 0}",
}


@pytest.mark.parametrize("section", NULLS)
def test_null_is_no_way_to_have_the_defaults(section, write, problems):
    base = write("base.yaml", "data")
    said = f"{section}: null does not switch it off; write {NULLS[section]}, or delete the line for the defaults"
    assert problems("data", write("x.yaml", f"extends: base.yaml\n{section}: null\n")) == [f"x.yaml:2:1: {said}"]
    with pytest.raises(ConfigError, match="null does not switch it off"):
        load_config("data", base, [f"{section}=~"])
    empty = load_config("data", write("y.yaml", f"extends: base.yaml\n{section}:\n"))
    assert empty == load_config("data", base)
    off = load_config("data", write("z.yaml", f"extends: base.yaml\n{section}: {NULLS[section]}\n"))
    assert off != empty


@pytest.mark.parametrize(
    ("written", "recorded"),
    [("mit", "MIT"), ("Apache 2.0", "Apache-2.0"), ("GPL-2.0+", "GPL-2.0-or-later"),
     ("proprietary", "LicenseRef-proprietary"),
     ("LicenseRef-ours", "LicenseRef-ours"), ("mit or apache-2.0", "MIT OR Apache-2.0"),
     ("cc-by-nc-sa-3.0-igo", "CC-BY-NC-SA-3.0-IGO")],
)  # fmt: skip
def test_licences_are_recorded_as_spdx_spells_them(written, recorded, write):
    config = load_config("data", write("x.yaml", "data"), [f"sources.here.licence={written}"])
    assert config.sources["here"].licence == recorded


def test_numbers_in_scientific_notation_are_numbers(write):
    write("base.yaml", "train")
    assert load_config("train", write("x.yaml", "extends: base.yaml\noptimizer: {lr: 2e-5}\n")).optimizer.lr == 2e-5


def test_a_flood_of_problems_is_cut(write, problems):
    text = "".join(f"key_{index}_of_nothing: 1\n" for index in range(300))
    found = problems("eval", write("x.yaml", text))
    assert len(found) == 101
    assert found[-1] == "… and 204 more"


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("max_duration=1e400ba", "max_duration: `1e400ba` is beyond all training; write less than 1e+18ba"),
        ("seed=5000000000", "seed: should be less than 1e+09 (got 5000000000)"),
        ("max_seq_len=1", "max_seq_len: should be at least 2 (got 1)"),
        (
            "save_folder=runs/{run_name}",
            "save_folder: `runs/{run_name}` has braces, which Composer would fill in; write ${run_name} for the run's"
            " name",
        ),
        (
            "callbacks.hf_checkpointer={save_interval: 4ba, save_folder: 'hf/{rank}'}",
            "callbacks.hf_checkpointer.save_folder: `hf/{rank}` has braces, which Composer would fill in; write"
            " ${run_name} for the run's name",
        ),
    ],
)
def test_extremes_that_would_break_a_run_later_are_refused_at_once(write, problems, argument, said):
    assert problems("train", write("x.yaml", "train"), argument) == [f"command line `{argument}`: {said}"]
