"""Keys of a training run that contradict each other, or would have no effect, and what is said of them."""

import pytest

from codelm.config import load_config
from codelm.errors import ConfigError


@pytest.fixture
def load(write):
    def load(*overrides: str):
        return load_config("train", write("x.yaml", "train"), ["save_folder=/runs/x", *overrides])

    return load


LORA = ("model.peft_config={}", "load_path=base")
REFUSED = {
    "checkpoints and weights alone in one folder": (
        ("callbacks.hf_checkpointer={save_interval: 1ba, save_folder: /runs/x/}",),
        "hf_checkpointer.save_folder is save_folder too, .* leave it out",
    ),
    "saved at a URL": (("save_folder=s3://bucket/x",), "s3://bucket/x is a URL; name it as save_remote"),
    "saved in a folder named ~": (("save_folder=~/runs/x",), "save_folder ~/runs/x would be a folder named ~"),
    "uploaded onto itself": (("save_remote=file:///runs/x",), "save_remote is save_folder too"),
    "a stopper that never looks": (
        ("callbacks.early_stopper={}", "eval_interval=null", "eval_data={}"),
        "early_stopper watches validation, .* set eval_interval",
    ),
    "samples of nothing": (
        ("callbacks.sample_completions={interval: 1ba, held_out: 2}", "eval_data={}"),
        "no eval_data to cut held_out ones from",
    ),
    "adapters in bf16": (
        (*LORA, "callbacks.hf_checkpointer={save_interval: 1ba, precision: bfloat16}"),
        "adapters stay in float32",
    ),
    "adapters and FSDP1": ((*LORA, "fsdp_config={version: 1}"), "set fsdp_config.version: 2"),
    "few bits and FSDP": ((*LORA, "model.load_in_4bit=true", "fsdp_config={}"), "set fsdp_config: null"),
}


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_a_contradiction_is_refused_with_the_remedy(load, overrides, sentence):
    with pytest.raises(ConfigError, match=sentence) as refused:
        load(*overrides)
    assert len(str(refused.value).splitlines()) == 1


def test_what_is_apart_may_stand_beside_each_other(load):
    export = "callbacks.hf_checkpointer={save_interval: 1ba, save_folder: /runs/x/huggingface, precision: bfloat16}"
    assert load(export, "save_remote=file:///runs/y", "callbacks.early_stopper={}", "eval_interval=1ba")
