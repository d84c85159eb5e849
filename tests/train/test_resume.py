"""Resuming where it is hard: at the end of an epoch, after kills at awkward moments, with other settings."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from codelm.config.train import TrainConfig
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.reading.stream import HeldOutDataset, MixtureDataset
from codelm.errors import CheckpointError, CodelmError, ConfigError
from codelm.train import run
from codelm.train.run import dry_run, train

Make = Callable[..., TrainConfig]


def rows(save_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (save_folder / "metrics.jsonl").read_text().splitlines()]


def column(save_folder: Path, name: str) -> dict[int, float]:
    return {row["batch"]: row[name] for row in rows(save_folder) if name in row}


def as_if_killed_after(whole: Path, batch: int, copy: Path) -> Path:
    shutil.copytree(whole, copy, symlinks=True)
    for folder in copy.glob("ba*"):
        if int(folder.name[2:]) > batch:
            shutil.rmtree(folder)
    return copy


def three_batch_epochs(corpus: Path) -> dict[str, Any]:
    """Almost three epochs of three batches each, every batch saved and kept."""
    return {
        "train_data": {"path": str(corpus), "mixture": {"c": 1.0}, "streams": {"c": {"limit": 12}}},
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 4,
        "max_duration": "8ba",
        "save_interval": "1ba",
        "save_num_checkpoints_to_keep": 99,
    }


def test_resuming_reads_no_sample_but_those_of_the_batches_to_come(
    train_config: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Composer's spinning reads a batch of each held-out set; of the training data none, whose dataset has a state."""
    settings = three_batch_epochs(corpus)
    positions: list[int] = []
    held_out: list[int] = []
    usual, usual_held_out = MixtureDataset.__getitems__, HeldOutDataset.__getitem__

    def watched(self: MixtureDataset, wanted: Sequence[int]) -> list[torch.Tensor]:
        positions.extend(wanted)
        return usual(self, wanted)

    def watched_held_out(self: HeldOutDataset, index: int) -> torch.Tensor:
        held_out.append(index)
        return usual_held_out(self, index)

    train(train_config(save_folder=str(tmp_path / "whole"), **settings))
    monkeypatch.setattr(MixtureDataset, "__getitems__", watched)
    monkeypatch.setattr(HeldOutDataset, "__getitem__", watched_held_out)
    # In the middle of the third epoch of three batches.
    train(train_config(save_folder=str(as_if_killed_after(tmp_path / "whole", 7, tmp_path / "killed")), **settings))
    assert positions == [28, 29, 30, 31]
    assert held_out == [0, 1, 2, 3] * 2, "one evaluation of two languages, at the end"


def test_epochs_of_three_batches_go_on_the_same_from_their_middle_and_their_end(
    train_config: Make, corpus: Path, tmp_path: Path
) -> None:
    settings = {**three_batch_epochs(corpus), "eval_data": {}}
    whole = tmp_path / "whole"
    train(train_config(save_folder=str(whole), **settings))
    epochs = column(whole, "time/epoch")
    assert [batch for batch in epochs if epochs[batch] == 2]
    for batch in (3, 4, 6):
        killed = as_if_killed_after(whole, batch, tmp_path / f"killed{batch}")
        train(train_config(save_folder=str(killed), **settings))
        assert column(killed, "loss/train/total") == column(whole, "loss/train/total")
        assert column(killed, "time/sample") == column(whole, "time/sample")


def test_what_kills_left_behind_is_removed_and_latest_put_right(train_config: Make) -> None:
    """Killed in a save under another interval, in removing an old checkpoint, and between a rename and `latest`."""
    save_folder = train(train_config()).parent
    for name in (
        ".tmp-ba000003-7-1-0",
        ".tmp-ba000003-7-1-0-training_state",
        ".tmp-.tmp-ba000007-7-2-0-123",
        ".tmp-old-ba000002",
    ):
        (save_folder / name).mkdir()
        (save_folder / name / "model.safetensors").write_bytes(b"half")
    (save_folder / ".tmp-of-someone-else").mkdir()
    (save_folder / "latest").unlink()
    (save_folder / "latest").symlink_to("ba000004")
    train(train_config())
    left = sorted(path.name for path in save_folder.iterdir() if path.name.startswith((".tmp", "ba")))
    assert left == [".tmp-of-someone-else", "ba000004", "ba000008"]
    assert (save_folder / "latest").resolve().name == "ba000008"


def test_another_learning_rate_holds_from_the_next_batch(train_config: Make) -> None:
    """The guard against NaN tells users to lower it and go on."""
    constant = {"scheduler": {"name": "constant_with_warmup"}}
    save_folder = train(train_config(**constant)).parent
    lower = {"name": "lionw", "lr": 1e-4, "weight_decay": 1e-4}
    train(train_config(optimizer=lower, max_duration="10ba", **constant))
    rates = column(save_folder, "lr")
    assert [rates[batch] for batch in (8, 9, 10)] == pytest.approx([1e-3, 1e-4, 1e-4])


def test_another_kind_of_optimizer_is_refused(train_config: Make) -> None:
    train(train_config())
    with pytest.raises(CheckpointError, match="holds the state of lionw, which adamw cannot continue"):
        train(train_config(optimizer={"name": "adamw", "lr": 1e-3}, max_duration="10ba"))


def test_resuming_does_not_need_the_weights_that_the_run_began_from(train_config: Make, tmp_path: Path) -> None:
    first = train(train_config(save_folder=str(tmp_path / "first")))
    train(train_config(load_path=str(first)))
    shutil.rmtree(first)
    assert train(train_config(load_path=str(first), max_duration="9ba")).name == "ba000009"


def test_a_dry_run_refuses_what_the_run_would_refuse(train_config: Make, tmp_path: Path) -> None:
    train(train_config())
    with pytest.raises(CheckpointError, match="already holds ba000008"):
        dry_run(train_config(autoresume=False))
    data = train_config().train_data.model_copy(update={"mixture": {"python": 1.0, "c": 1.0}}).model_dump()
    with pytest.raises(CheckpointError, match=r"on this data: mixture was .* and is now \{'c': 0.5, 'python': 0.5\}"):
        dry_run(train_config(train_data=data, max_duration="10ba"))
    with pytest.raises(CheckpointError, match="is of another model"):
        dry_run(train_config(model={"name": "replit_code", "d_model": 64, "n_heads": 4, "n_layers": 2}))
    assert "validation samples: c (4), python (4)" in dry_run(train_config(save_folder=str(tmp_path / "new")))
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"save_folder: .*file is a file"):
        dry_run(train_config(save_folder=str(tmp_path / "file")))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"save_best": {"metric": "metrics/pyton/BitsPerByte"}}, "did you mean metrics/python/BitsPerByte"),
        ({"save_best": {"metric": "eval/humaneval/pass@1"}}, "is judged beside training"),
        (
            {"save_interval": "2ba", "save_keep_every": "3ba"},
            r"no multiple of save_interval 2ba .* save_keep_every=4ba",
        ),
        (
            {"callbacks": {"early_stopper": {"monitor": "BitsPrByte"}}, "eval_interval": "4ba"},
            "BitsPrByte, which no evaluation gives",
        ),
        ({"save_remote": "nosuch://x/y"}, "save_remote: nosuch://x/y cannot be opened"),
        (
            {"callbacks": {"code_eval": {"interval": "4ba", "tasks": {"humaneval": {"path": "absent.jsonl"}}}}},
            "absent.jsonl",
        ),
        ({"loggers": {"mlflow": {}}}, "pip install mlflow"),
    ],
    ids=["save_best", "save_best judged", "save_keep_every", "early_stopper", "save_remote", "code_eval", "loggers"],
)
def test_what_would_fail_beside_training_is_refused_before_a_model_is_built(
    train_config: Make,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    sentence: str,
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("a model is built")

    find_spec = importlib.util.find_spec
    monkeypatch.setattr(run, "_composer_model", never)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else find_spec(name))
    with pytest.raises(CodelmError, match=sentence):
        dry_run(train_config(**changes))
    if "save_best" in changes:
        with pytest.raises(CodelmError, match=sentence):
            train(train_config(**changes))


def test_middles_are_not_filled_in_where_all_are_instructions(
    train_config: Make, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ShardReader, "has_loss_mask", True)
    with pytest.raises(ConfigError, match=r"train_data\.fim leaves instruction data as it is"):
        dry_run(train_config(train_data={"path": str(corpus), "fim": {}}))


def test_what_has_no_effect_is_warned_of(train_config: Make, corpus: Path, caplog: pytest.LogCaptureFixture) -> None:
    dry_run(train_config(train_data={"path": str(corpus), "cache_limit": 10}, eval_data={}, eval_interval="4ba"))
    assert "every corpus is on this machine, so nothing is cached" in caplog.text
    assert "eval_interval 4ba: there is no eval_data, so nothing is evaluated" in caplog.text
