"""A loss that runs away on some data: warned of, or undone by going back and leaving the data out."""

import json
import logging
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, Logger, State
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, CodelmError
from codelm.train import run
from codelm.train.build import build_pieces
from codelm.train.callbacks.loss_spike import OUTLIERS_METRIC
from codelm.train.checkpoints.run_file import read_run
from codelm.train.composer_model import ComposerCausalLM
from codelm.train.roll_backs import ROLL_BACKS_FILE, RollBack, choose_checkpoint, read_roll_backs, settle
from codelm.train.run import train

Make = Callable[..., TrainConfig]

BATCHES = 24
RUN = {
    "max_duration": f"{BATCHES}ba",
    "scheduler": {"name": "constant_with_warmup"},
    "eval_data": {},
    "save_interval": "4ba",
    "save_num_checkpoints_to_keep": 99,
}
WATCH = {"window_size": 10, "outlier_threshold": 8.0, "patience": 2, "skip_before": 1, "skip_after": 1}
ROLL_BACK = {"callbacks": {"loss_spike": {**WATCH, "action": "roll_back", "max_roll_backs": 2}}}


@pytest.fixture
def bad_data(train_config: Make, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes some global batches of the stream (0, 1, 2, …) hard: their samples' loss is three times as high."""
    loss = ComposerCausalLM.loss

    def apply(*batches: int) -> None:
        config = train_config(**RUN)
        dataset, size = build_pieces(config, 0, 1).data.dataset, config.global_train_batch_size
        rows = {tuple(dataset[at].tolist()) for batch in batches for at in range(batch * size, (batch + 1) * size)}

        def hard(self: ComposerCausalLM, outputs: Any, batch: Any) -> torch.Tensor:
            factor = 3.0 if any(tuple(row.tolist()) in rows for row in batch["input_ids"]) else 1.0
            return loss(self, outputs, batch) * factor

        monkeypatch.setattr(ComposerCausalLM, "loss", hard)

    return apply


def weights(folder: Path, batch: int = BATCHES) -> dict[str, torch.Tensor]:
    return load_file(folder / f"ba{batch:06d}" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def as_if_killed_after(batch: int, whole: Path, copy: Path) -> Path:
    shutil.copytree(whole, copy, symlinks=True)
    for folder in copy.glob("ba*"):
        if int(folder.name[2:]) > batch:
            shutil.rmtree(folder)
    return copy


def column(folder: Path, name: str) -> dict[int, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {line["batch"]: line[name] for line in lines if name in line}


def test_a_warning_changes_nothing(
    train_config: Make, bad_data: Callable[..., None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad_data(15, 16)
    with caplog.at_level(logging.WARNING, "codelm"):
        watched = train(train_config(save_folder=str(tmp_path / "watched"), callbacks={"loss_spike": WATCH}, **RUN))
    unwatched = train(train_config(save_folder=str(tmp_path / "not"), callbacks={"loss_spike": None}, **RUN))
    assert same(load_file(watched / "model.safetensors"), load_file(unwatched / "model.safetensors"))
    assert [record.message.split(":")[0] for record in caplog.records if "the loss is" in record.message] == [
        "batch 16",
        "batch 17",
    ]
    assert column(watched.parent, OUTLIERS_METRIC) == {16: 1.0, 17: 2.0}


@pytest.fixture
def rolled_back(train_config: Make, bad_data: Callable[..., None], tmp_path: Path) -> Path:
    bad_data(15, 16)
    return train(train_config(save_folder=str(tmp_path / "rolled-back"), **RUN, **ROLL_BACK)).parent


def test_a_roll_back_ends_like_a_run_that_never_saw_the_data(
    rolled_back: Path, train_config: Make, tmp_path: Path
) -> None:
    found = read_roll_backs(rolled_back)
    assert [(of.first_batch, of.last_batch, of.checkpoint, of.left_out) for of in found] == [(16, 17, 12, (14, 18))]
    assert found[0].loss > 2 * found[0].usual_loss
    records = [len(read_run(rolled_back / f"ba{batch:06d}")["roll_backs"]) for batch in (12, 16, 24)]
    assert records == [0, 1, 1]
    assert sorted(column(rolled_back, "loss/train/total")) == [*range(1, BATCHES + 1)]

    never = tmp_path / "never"
    never.mkdir()
    shutil.copy(rolled_back / ROLL_BACKS_FILE, never)
    train(train_config(save_folder=str(never), **RUN))
    assert same(weights(rolled_back), weights(never))
    assert column(rolled_back, "loss/train/total") == column(never, "loss/train/total")


@pytest.mark.parametrize(
    ("killed_after", "with_record"),
    [
        (12, False),
        (20, True),
        pytest.param(12, True, marks=pytest.mark.slow),
        pytest.param(20, False, marks=pytest.mark.slow),
    ],
)
def test_a_run_resumed_after_a_roll_back_ends_the_same(
    rolled_back: Path, train_config: Make, tmp_path: Path, killed_after: int, with_record: bool
) -> None:
    """Before the first save after it, and after that; the checkpoint alone does, and without one it happens again."""
    copy = as_if_killed_after(killed_after, rolled_back, tmp_path / "copy")
    if not with_record:
        (copy / ROLL_BACKS_FILE).unlink()
    train(train_config(save_folder=str(copy), **RUN, **ROLL_BACK))
    assert same(weights(copy), weights(rolled_back))
    assert read_roll_backs(copy) == read_roll_backs(rolled_back)


class Signal(Callback):
    """One comes in a batch."""

    def __init__(self, batch: int, number: int) -> None:
        self.batch = batch
        self.number = number

    def batch_start(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch) + 1 == self.batch:
            os.kill(os.getpid(), self.number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_batch_that_ends_in_a_roll_back_ends_the_run(
    rolled_back: Path, train_config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    usual = run.build_callbacks
    config = train_config(save_folder=str(tmp_path / "stopped"), **RUN, **ROLL_BACK)
    with monkeypatch.context() as patch:
        patch.setattr(run, "build_callbacks", lambda *given: [*usual(*given), Signal(17, number)])
        with pytest.raises(SystemExit) as ended:
            train(config)
    assert ended.value.code == 128 + number
    folder = Path(config.save_folder)
    assert sorted(path.name for path in folder.glob("ba*")) == ["ba000004", "ba000008", "ba000012"]
    train(config)
    assert same(weights(folder), weights(rolled_back))
    assert read_roll_backs(folder) == read_roll_backs(rolled_back)


def test_spikes_after_the_last_allowed_roll_back_end_the_run(train_config: Make, bad_data: Callable[..., None]) -> None:
    bad_data(*range(15, 40))
    config = train_config(**RUN, **ROLL_BACK)
    with pytest.raises(CodelmError, match=r"ran away again in the batches \d+ to \d+ .* after 2 roll-backs; lower"):
        train(config)
    assert len(read_roll_backs(Path(config.save_folder))) == 2


def test_without_a_checkpoint_from_before_training_goes_on(
    train_config: Make, bad_data: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    bad_data(15, 16)
    config = train_config(**{**RUN, "save_interval": "24ba"}, **ROLL_BACK)
    assert train(config).name == "ba000024"
    assert "no checkpoint from before batch 16" in caplog.text


def past(checkpoint: int) -> RollBack:
    return RollBack(checkpoint + 2, checkpoint + 3, 9.0, 3.0, checkpoint, (checkpoint, checkpoint + 9))


def fake(folder: Path, roll_backs: dict[int, int]) -> None:
    for batch, known in roll_backs.items():
        (folder / f"ba{batch:06d}").mkdir()
        record = {"format": 1, "roll_backs": [{}] * known}
        (folder / f"ba{batch:06d}" / "run.json").write_text(json.dumps(record))


def test_checkpoints_that_a_roll_back_left_behind_are_removed_after_a_kill(tmp_path: Path) -> None:
    fake(tmp_path, {4: 0, 8: 0, 12: 1, 16: 1, 20: 2})
    (tmp_path / "ba000024").mkdir()
    records = [vars(past(8)), vars(past(12))]
    (tmp_path / ROLL_BACKS_FILE).write_text(json.dumps(records))
    assert settle(tmp_path) == [past(8), past(12)]
    # The torn one is for whoever resumes to judge.
    assert sorted(path.name[-2:] for path in tmp_path.glob("ba*")) == ["04", "08", "12", "20", "24"]


def test_the_checkpoint_is_from_before_the_spike_by_the_margin_if_there_is_one(tmp_path: Path) -> None:
    fake(tmp_path, {4: 0, 8: 0, 12: 0})
    assert choose_checkpoint(tmp_path, first_batch=13, margin=0) == 12
    assert choose_checkpoint(tmp_path, first_batch=13, margin=1) == 8
    assert choose_checkpoint(tmp_path, first_batch=12, margin=0) == 8
    assert choose_checkpoint(tmp_path, first_batch=6, margin=10) == 4
    assert choose_checkpoint(tmp_path, first_batch=4, margin=0) is None


def test_a_record_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / ROLL_BACKS_FILE).write_text("[{}]")
    with pytest.raises(CheckpointError, match=r"roll_backs\.json is no record of roll-backs"):
        read_roll_backs(tmp_path)
