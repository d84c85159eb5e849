"""SIGTERM and Ctrl-C: the batch is finished, a checkpoint saved, and the same command goes on to the bit."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from composer import Callback, Logger, State
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.train import run
from codelm.train.checkpoints import save as saving
from codelm.train.checkpoints.folder import newest_checkpoint
from codelm.train.lifeline.sentinel import AGREE_SECONDS

Make = Callable[..., TrainConfig]


class At(Callback):
    """Does something at the start of a batch."""

    def __init__(self, batch: int, do: Callable[[], None]) -> None:
        self.batch = batch
        self.do = do

    def batch_start(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch) + 1 == self.batch:
            self.do()


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], None]], None]:
    """Make the next runs of this process do something in a batch."""
    usual = run.build_callbacks

    def arrange(batch: int, do: Callable[[], None]) -> None:
        monkeypatch.setattr(run, "build_callbacks", lambda *given: [*usual(*given), At(batch, do)])

    return arrange


def weights(save_folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(save_folder) / "latest" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("in_background", [False, True], ids=["plain", "save_async"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_one_rank(train_config: Make, tmp_path: Path, at: Any, number: int, in_background: bool) -> None:
    whole = train_config(save_folder=str(tmp_path / "whole"), eval_data={})
    run.train(whole)
    config = train_config(save_async=in_background, eval_data={})
    at(6, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as exit_:
        run.train(config)
    assert exit_.value.code == 128 + number
    assert newest_checkpoint(Path(config.save_folder)) == Path(config.save_folder) / "ba000006"
    at(99, lambda: None)
    run.train(config)
    assert same(weights(config.save_folder), weights(whole.save_folder))


def test_a_save_that_takes_too_long_leaves_the_checkpoint_before_it(
    train_config: Make, at: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = train_config(eval_data={})
    monkeypatch.setattr(saving, "LAST_SAVE_SECONDS", 0.0)
    at(6, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(SystemExit) as exit_:
        run.train(config)
    assert exit_.value.code == 143
    assert "batch 6 could not be saved in time; the run will go on from" in caplog.text
    assert (Path(config.save_folder) / "latest").resolve().name == "ba000004"
    at(99, lambda: None)
    assert run.train(config).name == "ba000008"


def test_the_handlers_of_before_are_back_after_a_run(train_config: Make) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    run.train(train_config(max_duration="1ba", eval_data={}))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


@pytest.mark.world_size(2)
@pytest.mark.parametrize(
    ("kind", "ranks", "code"),
    [
        ("SIGTERM", [0, 1], 143),
        ("SIGINT", [0, 1], 130),
        pytest.param("SIGTERM", [1], 143, marks=pytest.mark.slow),
        pytest.param("SIGTERM to the launcher", [0], 143, marks=pytest.mark.slow),
    ],
    ids=["a scheduler's to all", "Ctrl-C", "one rank's", "the launcher's"],
)
def test_two_ranks(launch: Any, small: dict[str, Any], tmp_path: Path, kind: str, ranks: list[int], code: int) -> None:
    settings = {**small, "max_duration": "40ba", "save_interval": "20ba"}
    ended = launch(settings, {"kind": kind, "ranks": ranks, "batch": 6})
    assert ended.code == code
    newest = newest_checkpoint(Path(small["save_folder"]))
    assert newest is not None
    assert newest.name < "ba000040"
    assert f"saved {newest}; run the same command again" in ended.output
    assert "Traceback" not in ended.output.split("SIG", 1)[1]
    assert launch(settings).code == 0
    assert launch({**settings, "save_folder": str(tmp_path / "whole")}).code == 0
    assert same(weights(small["save_folder"]), weights(str(tmp_path / "whole")))


@pytest.mark.world_size(2)
def test_one_ranks_signal_at_a_roll_back_ends_both(launch: Any, small: dict[str, Any]) -> None:
    ended = launch(small, {"kind": "SIGTERM and a roll-back", "ranks": [0, 1], "batch": 6})
    assert ended.code == 143
    assert ended.seconds < 10
    assert "back to the checkpoint before; the run ends here: run the same command again" in ended.output
    assert "Traceback" not in ended.output
    assert (Path(small["save_folder"]) / "latest").resolve().name == "ba000004"
    assert launch(small).code == 0


def state_of(pid: int) -> str:
    """The letter of a process's state; Z where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def seconds_until(pid: int, state: str, patience: float = 60.0) -> float:
    began = time.monotonic()
    while state_of(pid) != state:
        assert time.monotonic() - began < patience, f"{pid} is still {state_of(pid)}"
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.world_size(2)
def test_where_a_rank_does_not_answer_the_other_leaves_without_a_save(launch: Any, small: dict[str, Any]) -> None:
    """It could wait for the end of the batch for ever, or for the scheduler's SIGKILL."""
    launch.begin(small, {"kind": "stop itself", "ranks": [1], "batch": 6})
    _, first, second = launch.pids()
    try:
        seconds_until(second, "T")
        os.kill(first, signal.SIGTERM)
        seconds = seconds_until(first, "Z", patience=AGREE_SECONDS + 10)
    finally:
        launch.kill([second])  # The launcher waits for it half a minute.
    ended = launch.end()
    assert seconds > AGREE_SECONDS - 1
    assert ended.code == 143
    assert "not every rank answers: leaving without a save; the last checkpoint is good" in ended.output
    newest = newest_checkpoint(Path(small["save_folder"]))
    assert newest is not None
    assert newest.name == "ba000004"
