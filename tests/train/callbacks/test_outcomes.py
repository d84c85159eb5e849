"""Samples, transformers folders and the early stop in real runs: what they leave, and that training does not notice."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from composer import Logger
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from codelm.config.train import TrainConfig
from codelm.errors import ConfigError
from codelm.tokenizer import load_tokenizer
from codelm.train.callbacks import hf_checkpointer, samples
from codelm.train.run import train

Make = Callable[..., TrainConfig]

EVERYTHING = {
    "sample_completions": {"interval": "4ba", "prompts": ["def main("], "held_out": 1, "max_new_tokens": 8},
    "hf_checkpointer": {"save_interval": "4ba", "precision": "bfloat16"},
}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def losses(folder: Path) -> dict[int, float]:
    rows = lines(folder / "metrics.jsonl")
    return {row["batch"]: row["loss/train/total"] for row in rows if "loss/train/total" in row}


def test_samples_and_exports_are_left_and_training_is_as_without_them(
    train_config: Make, tmp_path: Path, corpus: Path
) -> None:
    without, with_them = tmp_path / "without", tmp_path / "with"
    train(train_config(save_folder=str(without)))
    train(train_config(save_folder=str(with_them), callbacks=EVERYTHING))
    assert losses(with_them) == losses(without)

    found = lines(with_them / "samples.jsonl")
    assert [(row["batch"], row["source"]) for row in found] == [
        (batch, source) for batch in (4, 8) for source in ("prompt", "c", "python")
    ]
    assert found[0]["prompt"] == "def main("
    tokenizer = load_tokenizer(corpus / "tokenizer")
    assert all(0 < len(tokenizer.encode(row["reference"])) <= 9 for row in found if "reference" in row)

    for batch in (4, 8):
        folder = with_them / "huggingface" / f"ba{batch:06d}"
        exported = load_file(folder / "model.safetensors")
        whole = load_file(with_them / f"ba{batch:06d}" / "model.safetensors")
        assert all(torch.equal(exported[name], whole[name].bfloat16()) for name in whole)
    assert AutoModelForCausalLM.from_pretrained(with_them / "huggingface" / "ba000008") is not None
    assert "hardware" in json.loads((with_them / "ba000008" / "run.json").read_text())


def test_no_room_for_the_weights_costs_the_samples_and_not_the_run(
    train_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_room(*_: Any) -> None:
        raise torch.cuda.OutOfMemoryError("no room for the weights")

    monkeypatch.setattr(samples, "whole_model", no_room)
    callbacks = {"sample_completions": EVERYTHING["sample_completions"]}
    train(train_config(save_folder=str(tmp_path / "run"), max_duration="4ba", callbacks=callbacks, eval_data={}))
    assert "sample completions were left out: OutOfMemoryError: no room for the weights" in caplog.text
    assert not (tmp_path / "run" / "samples.jsonl").exists()


def test_a_run_that_goes_on_writes_its_samples_once(train_config: Make, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "run"
    config = train_config(save_folder=str(folder), callbacks=EVERYTHING)
    train(config)
    before = lines(folder / "samples.jsonl")
    shutil.rmtree(folder / "ba000008")
    train(config)
    assert lines(folder / "samples.jsonl") == before


def test_a_folder_that_cannot_be_written_costs_a_warning(
    train_config: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    section = {"hf_checkpointer": {"save_interval": "8ba", "save_folder": str(tmp_path / "file")}}
    assert train(train_config(callbacks=section)).name == "ba000008"
    assert "was not written" in caplog.text


def test_adapters_that_cannot_be_written_leave_no_half_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def torn(weights: Any, model: Any, tokenizer: Any, folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "adapter_model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    replaced = {"save_adapters": torn, "has_adapters": lambda _: True, "weights_to_save": lambda _: {}}
    for name, function in {**replaced, "unwrapped": lambda model: SimpleNamespace(model=model)}.items():
        monkeypatch.setattr(hf_checkpointer, name, function)
    exporter = hf_checkpointer.HfCheckpointer(tmp_path, "1ba", torch.float32, tmp_path)
    monkeypatch.setattr(exporter, "is_due", lambda *_: True)
    state: Any = SimpleNamespace(timestamp=SimpleNamespace(batch=7), model=None)
    exporter.batch_checkpoint(state, Logger(state))
    assert "ba000007 was not written" in caplog.text
    assert not (tmp_path / "ba000007").exists()


def test_it_stops_when_validation_gets_no_better_and_is_not_taken_up_again(
    train_config: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="codelm")
    section = {"early_stopper": {"monitor": "metrics/python/BitsPerByte", "patience": 2}}
    still = {"name": "adamw", "lr": 1e-12}
    config = train_config(optimizer=still, callbacks=section, eval_interval="1ba", max_duration="30ba")
    final = train(config)
    # The first evaluation is the best; two more are no better.
    assert final.name == "ba000003"
    assert "early stop at batch 3: metrics/python/BitsPerByte is" in caplog.text
    assert json.loads((final / "run.json").read_text())["metrics"]["early_stopper/stopped"] == 1.0
    assert train(config) == final
    assert train(config.model_copy(update={"callbacks": train_config().callbacks, "max_duration": "5ba"})) != final


def test_the_count_goes_on_when_a_run_goes_on(train_config: Make) -> None:
    section = {"early_stopper": {"monitor": "CrossEntropy", "patience": 3}}
    settings = {"optimizer": {"name": "adamw", "lr": 1e-12}, "callbacks": section, "eval_interval": "1ba"}
    train(train_config(**settings, max_duration="2ba"))
    assert train(train_config(**settings, max_duration="30ba")).name == "ba000004"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"eval_data": {}}, "watches validation, and there is no eval_data"),
        ({}, "monitor is metrics/rust/BitsPerByte, which no evaluation gives; there are BitsPerByte"),
    ],
    ids=["no evaluation", "no such language"],
)
def test_a_metric_that_there_is_not_is_refused(train_config: Make, changes: dict[str, Any], sentence: str) -> None:
    section = {"early_stopper": {"monitor": "metrics/rust/BitsPerByte"}}
    with pytest.raises(ConfigError, match=sentence):
        train(train_config(callbacks=section, eval_interval="4ba", **changes))
