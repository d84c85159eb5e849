"""LoRA and QLoRA: adapters alone are trained, and saved as peft does; a run resumes to the bit; merging adds up."""

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, ConfigError, EnvironmentFailure
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.adapters import BASE_FILE, CONFIG_FILE, WEIGHTS_FILE
from codelm.model.pretrained import load, save_transformers
from codelm.tokenizer import load_tokenizer
from codelm.train.adapters import adapter_parameters
from codelm.train.models import build_model
from codelm.train.run import dry_run, train

peft = pytest.importorskip("peft")

Make = Callable[..., TrainConfig]
SHAPE = {"d_model": 64, "n_heads": 4, "n_layers": 2}
PEFT = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1}
QUICK = {
    "optimizer": {"name": "adamw", "lr": 1e-2},
    "max_duration": "4ba",
    "save_interval": "2ba",
    "scheduler": {"name": "constant_with_warmup"},
    "eval_data": {},
}
needs_bitsandbytes = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="no bitsandbytes")


def saved(model: PreTrainedModel, corpus: Path, folder: Path) -> str:
    save_transformers(model, model.config, corpus / "tokenizer", folder)
    return str(folder)


@pytest.fixture
def replit(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    """The keys of a run that trains adapters on a checkpoint of ours."""
    tokenizer = load_tokenizer(corpus / "tokenizer")
    torch.manual_seed(3)
    ends = {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id}
    config = ReplitCodeConfig(**SHAPE, vocab_size=tokenizer.vocab_size, max_seq_len=256, **ends)
    base = saved(ReplitCodeForCausalLM(config), corpus, tmp_path / "replit")
    return {"model": {"name": "replit_code", **SHAPE, "peft_config": PEFT}, "load_path": base}


@pytest.fixture
def qwen(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    """The same on a model of transformers."""
    torch.manual_seed(3)
    config = Qwen2Config(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=load_tokenizer(corpus / "tokenizer").vocab_size,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    base = saved(Qwen2ForCausalLM(config), corpus, tmp_path / "qwen")
    return {"model": {"name": "hf_causal_lm", "pretrained_model_name_or_path": base, "peft_config": PEFT}}


@pytest.fixture(params=["replit", "qwen"])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.getfixturevalue(request.param)


BOTH_SLOWLY = pytest.mark.parametrize(
    "settings", ["qwen", pytest.param("replit", marks=pytest.mark.slow)], indirect=True
)


def base_of(settings: dict[str, Any]) -> str:
    return settings.get("load_path") or settings["model"]["pretrained_model_name_or_path"]


def losses(save_folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (save_folder / "metrics.jsonl").read_text().splitlines()]
    return {row["batch"]: row["loss/train/total"] for row in rows if "loss/train/total" in row}


def logits(model: Any, corpus: Path) -> torch.Tensor:
    ids = load_tokenizer(corpus / "tokenizer").encode("def main(argv):\n    return len(argv)\n")
    with torch.no_grad():
        return model.eval()(input_ids=torch.tensor([ids])).logits


def test_only_adapters_are_trained(train_config: Make, corpus: Path, settings: dict[str, Any]) -> None:
    model = build_model(train_config(**settings), load_tokenizer(corpus / "tokenizer"))
    trained = adapter_parameters(model)
    assert trained
    assert all(".lora_A." in name or ".lora_B." in name for name in trained)
    # All linear layers of two blocks, and not the output layer.
    assert len(trained) == 2 * 2 * (4 if settings["model"]["name"] == "replit_code" else 7)


def test_a_run_learns_saves_adapters_alone_and_peft_loads_them(
    train_config: Make, corpus: Path, settings: dict[str, Any]
) -> None:
    config = train_config(**settings, **{**QUICK, "max_duration": "12ba", "save_interval": "12ba"})
    final = train(config)
    found = losses(Path(config.save_folder))
    assert found[12] < found[1] - 0.1
    names = {path.name for path in final.iterdir()}
    assert {CONFIG_FILE, WEIGHTS_FILE, BASE_FILE, "tokenizer.json", "run.json"} <= names
    assert not names & {"model.safetensors", "config.json"}
    base_bytes = (Path(base_of(settings)) / "model.safetensors").stat().st_size
    assert sum(path.stat().st_size for path in (final / "training_state").iterdir()) < base_bytes / 2

    base = AutoModelForCausalLM.from_pretrained(base_of(settings))
    before = logits(base, corpus)
    adapted = logits(peft.PeftModel.from_pretrained(base, final), corpus)
    assert (adapted - before).abs().max() > 0.1
    by_itself = peft.AutoPeftModelForCausalLM.from_pretrained(final)
    assert torch.allclose(logits(by_itself, corpus), adapted, atol=1e-6)
    # Ours, merged: what an evaluation or an export of the checkpoint sees.
    merged, tokenizer = load(Path(config.save_folder))
    assert torch.allclose(logits(merged, corpus), adapted, atol=1e-4)
    assert tokenizer.fingerprint().matches(load_tokenizer(corpus / "tokenizer").fingerprint())


def test_a_killed_run_goes_on_to_the_bit(train_config: Make, settings: dict[str, Any], tmp_path: Path) -> None:
    train(train_config(**settings, **QUICK, save_folder=str(tmp_path / "whole")))
    parts = tmp_path / "parts"
    shutil.copytree(tmp_path / "whole", parts, symlinks=True)
    shutil.rmtree(parts / "ba000004")
    train(train_config(**settings, **QUICK, save_folder=str(parts)))
    assert losses(parts) == losses(tmp_path / "whole")
    one, other = (load_file(folder / "ba000004" / WEIGHTS_FILE) for folder in (tmp_path / "whole", parts))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_adapters_on_other_weights_are_refused(train_config: Make, qwen: dict[str, Any], corpus: Path) -> None:
    final = train(train_config(**qwen, **{**QUICK, "max_duration": "2ba"}))
    base = Path(base_of(qwen))
    model = AutoModelForCausalLM.from_pretrained(base)
    shutil.rmtree(base)
    with torch.no_grad():
        model.get_input_embeddings().weight[5] += 1
    saved(model, corpus, base)
    with pytest.raises(CheckpointError, match=r"ba000002 holds adapters for the weights that .* held then"):
        train(train_config(**qwen, **QUICK))
    with pytest.raises(CheckpointError, match="holds adapters that were trained on other weights than those of"):
        load(final)
    shutil.rmtree(base)
    with pytest.raises(CheckpointError, match=r"holds adapters for .*qwen, which cannot be loaded .*; put it back"):
        load(final)


@needs_bitsandbytes
@pytest.mark.parametrize(
    ("base", "bits"), [("replit", "load_in_4bit"), ("qwen", "load_in_4bit"), ("replit", "load_in_8bit")]
)
def test_adapters_on_weights_in_few_bits_learn_and_resume(
    train_config: Make, request: pytest.FixtureRequest, tmp_path: Path, base: str, bits: str
) -> None:
    settings = request.getfixturevalue(base)
    changes = {**settings, **QUICK, "model": {**settings["model"], bits: True}}
    train(train_config(**changes, save_folder=str(tmp_path / "whole")))
    found = losses(tmp_path / "whole")
    assert found[4] < found[1] - 0.02
    shutil.copytree(tmp_path / "whole", tmp_path / "parts", symlinks=True)
    shutil.rmtree(tmp_path / "parts" / "ba000004")
    train(train_config(**changes, save_folder=str(tmp_path / "parts")))
    assert losses(tmp_path / "parts") == found


def test_the_output_layer_gets_no_adapter(train_config: Make, settings: dict[str, Any]) -> None:
    model = {**settings["model"], "peft_config": {**PEFT, "target_modules": ["lm_head"]}}
    with pytest.raises(ConfigError, match="lm_head is the embedding or the output layer, which get no adapters"):
        dry_run(train_config(**{**settings, "model": model}))


def test_layers_that_are_not_there_are_named(train_config: Make, replit: dict[str, Any]) -> None:
    model = {**replit["model"], "peft_config": {**PEFT, "target_modules": ["q_proj"]}}
    with pytest.raises(ConfigError, match=r"target_modules: Target modules .*q_proj.* not found"):
        dry_run(train_config(**{**replit, "model": model}))


def on_two_ranks(launch: Any, settings: dict[str, Any], folder: Path) -> dict[int, float]:
    ended = launch({**settings, "save_folder": str(folder)})
    assert ended.code == 0, ended.output[-3000:]
    return losses(folder)


def without_half(whole: Path, copy: Path) -> Path:
    shutil.copytree(whole, copy, symlinks=True)
    shutil.rmtree(copy / "ba000004")
    return copy


def for_two_ranks(train_settings: dict[str, Any], settings: dict[str, Any], **model: Any) -> dict[str, Any]:
    """No dropout, of which ranks draw other masks; a large eps, for which a wrong scale of the gradients shows."""
    changed = {**settings["model"], "peft_config": {**PEFT, "lora_dropout": 0.0}, **model}
    optimizer = {"name": "adamw", "lr": 1e-2, "eps": 1e-2}
    return {**train_settings, **settings, **QUICK, "model": changed, "optimizer": optimizer}


@pytest.mark.world_size(2)
@BOTH_SLOWLY
def test_two_ranks_train_adapters_as_one_does(
    launch: Any, train_settings: dict[str, Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    shared = for_two_ranks(train_settings, settings)
    train(TrainConfig.model_validate({**shared, "save_folder": str(tmp_path / "one")}))
    one = pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert on_two_ranks(launch, shared, tmp_path / "ddp") == one
    sharded = {**shared, "fsdp_config": {}, "activation_checkpointing": True}
    assert on_two_ranks(launch, sharded, tmp_path / "sharded") == one
    resumed = without_half(tmp_path / "sharded", tmp_path / "resumed")
    assert on_two_ranks(launch, sharded, resumed) == losses(tmp_path / "sharded")
    # What two ranks saved in parts goes on on one.
    moved = without_half(tmp_path / "sharded", tmp_path / "moved")
    train(TrainConfig.model_validate({**shared, "save_folder": str(moved)}))
    assert losses(moved) == one
    saved_by = [load_file(tmp_path / name / "ba000004" / WEIGHTS_FILE) for name in ("one", "ddp", "sharded", "moved")]
    for weights in saved_by[1:]:
        assert weights.keys() == saved_by[0].keys()
        assert all(torch.allclose(weights[key], saved_by[0][key], atol=1e-4) for key in weights)


@needs_bitsandbytes
@pytest.mark.world_size(2)
def test_two_ranks_hold_the_same_weights_in_few_bits(
    launch: Any, train_settings: dict[str, Any], qwen: dict[str, Any], tmp_path: Path
) -> None:
    shared = for_two_ranks(train_settings, qwen, load_in_4bit=True)
    train(TrainConfig.model_validate({**shared, "save_folder": str(tmp_path / "one")}))
    assert on_two_ranks(launch, shared, tmp_path / "ddp") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)


REFUSED = {
    "load_path": ({"load_path": None}, "trains adapters on weights that stay as they are; name their checkpoint by"),
    "fsdp 1": ({"fsdp_config": {"version": 1}}, r"fsdp_config.version 1 keeps trained and untrained weights in one"),
    "few bits under fsdp": (
        {"fsdp_config": {}, "model": {"name": "replit_code", **SHAPE, "peft_config": PEFT, "load_in_4bit": True}},
        "model.load_in_4bit and fsdp_config exclude each other",
    ),
    "few bits alone": (
        {"model": {"name": "replit_code", **SHAPE, "load_in_4bit": True}},
        "load_in_4bit: weights in few bits cannot be trained; give a peft_config",
    ),
    "both": (
        {
            "model": {
                "name": "replit_code",
                **SHAPE,
                "peft_config": PEFT,
                "load_in_4bit": True,
                "load_in_8bit": True,
            }
        },
        "load_in_8bit and load_in_4bit exclude each other",
    ),
    "from scratch": (
        {
            "model": {
                "name": "hf_causal_lm",
                "pretrained_model_name_or_path": "x",
                "pretrained": False,
                "peft_config": PEFT,
            }
        },
        "peft_config trains adapters on weights that stay as they are; set pretrained: true",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_with_the_reason(train_config: Make, replit: dict[str, Any], case: str) -> None:
    changes, reason = REFUSED[case]
    with pytest.raises(ValidationError, match=reason):
        train_config(**{**replit, **changes})


def test_without_peft_one_sentence_says_so(
    train_config: Make, replit: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(EnvironmentFailure, match=r"model.peft_config needs the package peft, which is not installed"):
        dry_run(train_config(**replit))


@BOTH_SLOWLY
def test_the_recipe_merges_into_a_plain_folder(
    train_config: Make, corpus: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    final = train(train_config(**settings, **QUICK))
    recipe = [sys.executable, str(Path(__file__).parents[2] / "train" / "merge_lora.py")]
    done = subprocess.run(
        [*recipe, str(final.parent), "-o", str(tmp_path / "merged")], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"merged {final} into {base_of(settings)}: ")
    merged = logits(AutoModelForCausalLM.from_pretrained(tmp_path / "merged"), corpus)
    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_of(settings)), final)
    assert torch.allclose(merged, logits(adapted, corpus), atol=1e-4)
    assert json.loads((tmp_path / "merged" / "lineage.json").read_text())["lineage"][0]["name"] == "test (ba000004)"
    again = subprocess.run(
        [*recipe, base_of(settings), "-o", str(tmp_path / "other")], capture_output=True, text=True, timeout=300
    )
    assert (again.returncode, again.stderr) == (2, f"error: {base_of(settings)} holds no adapters to merge\n")
