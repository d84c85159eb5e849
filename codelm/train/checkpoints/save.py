"""When a run saves, and what it does about it: at an interval, when it is best, at its end, and at a signal."""

import json
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Event, Logger, State
from composer.utils import dist
from composer.utils.misc import create_interval_scheduler

from codelm.errors import EnvironmentFailure
from codelm.model.pretrained import save_transformers
from codelm.train.adapters import has_adapters, save_adapters
from codelm.train.board import Board
from codelm.train.checkpoints.folder import name_of, newest_checkpoint
from codelm.train.checkpoints.newest_metrics import NewestMetrics
from codelm.train.checkpoints.policy import Policy
from codelm.train.checkpoints.retention import Retention
from codelm.train.checkpoints.run_file import RUN_FILE
from codelm.train.checkpoints.training_state import capture
from codelm.train.checkpoints.upload import Uploader
from codelm.train.checkpoints.weights import unwrapped, weights_to_save
from codelm.train.checkpoints.writer import NotSaved, Snapshot, write_together
from codelm.train.lifeline.lifeline import Lifeline
from codelm.train.rank_zero import on_rank_zero

log = logging.getLogger(__name__)

LAST_SAVE_SECONDS = 20.0
"""How long the save at a signal may take; the launcher's SIGKILL comes 30 s after its SIGTERM."""


@dataclass(frozen=True)
class SaveSettings:
    """What the configuration says of saving."""

    save_folder: Path
    interval: str
    """In batches, such as `50ba`."""
    policy: Policy
    in_background: bool
    """`save_async`: training goes on while a copy in memory is written."""
    tokenizer_folder: Path
    run: dict[str, Any]
    """What `run.json` says of the run, besides the moment."""


class CheckpointSaver(Callback):
    """Saves on all ranks together; a checkpoint that cannot be written costs a warning, unless it is the last."""

    def __init__(
        self,
        settings: SaveSettings,
        metrics: NewestMetrics,
        uploader: Uploader | None,
        board: Board,
        lifeline: Lifeline,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.uploader = uploader
        self.retention = Retention(settings.save_folder, settings.policy, uploader)
        self.board = board.part("save")
        self.lifeline = lifeline
        self.is_due = create_interval_scheduler(settings.interval, include_end_of_training=True)
        self.writing: threading.Thread | None = None
        self.serial = 0
        self.last_begun = -1
        self.last_saved = -1
        self.problem: BaseException | None = None
        self.is_last = False
        """No other save comes after the one that was begun."""

    def fit_start(self, state: State, logger: Logger) -> None:
        self.metrics.take(int(state.timestamp.batch))
        if self.board.rank == 0:
            self.retention.begin()

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.board.rank == 0 and (self.writing is None or not self.writing.is_alive()):
            self.retention.let_go_of_held()
        metrics = self.metrics.take(int(state.timestamp.batch))
        best = self._is_best(state, metrics)
        if best or self.is_due(state, Event.BATCH_CHECKPOINT):
            self.save(state, metrics)
        number = self.lifeline.stops_after(int(state.timestamp.batch))
        if number is not None:
            self._save_and_leave(state, metrics, number)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        if self.is_due(state, Event.EPOCH_CHECKPOINT):
            self.save(state, {})

    def fit_end(self, state: State, logger: Logger) -> None:
        """Wait for what is being written and uploaded.

        Raises:
            EnvironmentFailure: the last checkpoint could not be written.
        """
        self._settle(None)
        if self.last_saved != int(state.timestamp.batch):
            raise EnvironmentFailure(
                f"the run is at its end, but {self._target(int(state.timestamp.batch))} could not be saved"
                f" ({self.problem}); make room and run the same command again: it goes on from the checkpoint before"
            )
        if self.uploader is not None:
            self.uploader.close(None)

    def save(self, state: State, metrics: dict[str, float], limit: float | None = None, last: bool = False) -> None:
        """Begin to save this moment, and with `save_async` return; every rank must call.

        The save before it is finished first. What could not be written is warned of, on rank 0.

        Args:
            state: Composer's.
            metrics: those of this batch.
            limit: wait for it no longer than so many seconds.
            last: the run ends after it.
        """
        batch = int(state.timestamp.batch)
        self._settle(limit)
        if batch == self.last_begun or self.writing is not None:
            return
        self.last_begun = batch
        self.is_last = last or ends(state)
        self.serial += 1
        snapshot = self._snapshot(state, metrics)
        self.writing = threading.Thread(target=self._write, args=(snapshot, self.serial), name="save", daemon=True)
        self.writing.start()
        if not self.settings.in_background:
            self._settle(limit)

    def trust(self, batch: int) -> None:
        """The weights after so many batches have given a finite loss; every rank must call.

        Until then what is newer pushes out no checkpoint of the newest such weights.
        """
        self.retention.trust(batch)

    def save_last(self, state: State) -> None:
        """Save this moment, after which the run ends, and wait until it is there and uploaded; every rank must call.

        Raises:
            EnvironmentFailure: it could not be written.
        """
        self.save(state, {}, last=True)
        self.finish()
        if self.last_saved != int(state.timestamp.batch):
            raise EnvironmentFailure(f"{self._target(int(state.timestamp.batch))} could not be saved ({self.problem})")

    def wait(self) -> None:
        """Wait for the checkpoint that is being written, if any; every rank must call."""
        self._settle(None)

    def finish(self) -> None:
        """Wait for what is being written and uploaded; nothing is uploaded from then on. Every rank must call."""
        self._settle(None)
        if self.uploader is not None:
            self.uploader.close(None)

    def fall_back(self) -> Path | None:
        """Set aside the checkpoints that are newer than the newest trusted one; return that one, if there is one.

        The run ends after it. Every rank must call.
        """
        self.finish()
        return on_rank_zero(self.retention.fall_back)

    def _save_and_leave(self, state: State, metrics: dict[str, float], number: int) -> None:
        """The end at a signal: save if all ranks are there and it does not take long, and leave in any case."""
        batch = int(state.timestamp.batch)
        began = time.monotonic()
        if self.lifeline.all_arrive("stop"):
            self.save(state, metrics, LAST_SAVE_SECONDS, last=True)
            self._settle(max(0.0, LAST_SAVE_SECONDS - (time.monotonic() - began)))
        if self.uploader is not None:
            self.uploader.close(max(0.0, LAST_SAVE_SECONDS - (time.monotonic() - began)))
        if self.last_saved == batch:
            log.info("saved %s; run the same command again to go on from it", self._target(batch))
        else:
            newest = newest_checkpoint(self.settings.save_folder)
            log.warning("batch %d could not be saved in time; the run will go on from %s", batch, newest or "its start")
        self.lifeline.leave_together()
        raise SystemExit(128 + number)

    def _snapshot(self, state: State, metrics: dict[str, float]) -> Snapshot:
        copy = self.settings.in_background
        training, weights = capture(state, copy), weights_to_save(state.model)
        if self.board.rank != 0:
            return Snapshot(self._target(int(state.timestamp.batch)), training, None)
        if copy:
            weights = {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()}
        moment = {"batch": int(state.timestamp.batch), "tokens": int(state.timestamp.token), "metrics": metrics}
        run = {**moment, **self.settings.run}
        model = unwrapped(state.model).model

        def write_rest(folder: Path) -> None:
            if has_adapters(model):
                save_adapters(weights, model, self.settings.tokenizer_folder, folder)
            else:
                save_transformers(weights, model.config, self.settings.tokenizer_folder, folder)
            (folder / RUN_FILE).write_text(json.dumps(run, indent=1) + "\n")

        return Snapshot(self._target(int(state.timestamp.batch)), training, write_rest)

    def _write(self, snapshot: Snapshot, serial: int) -> None:
        try:
            write_together(snapshot, self.board, serial, self.retention.make_room)
            self.problem = None
            if self.board.rank == 0:
                self.retention.after(snapshot.target)
        except OSError as error:
            log.warning("%s is saved, but what it replaces could not be removed: %s", snapshot.target, error)
        except BaseException as error:
            self.problem = error

    def _settle(self, limit: float | None) -> None:
        """Wait for the thread that writes, and say how it went."""
        if self.writing is None:
            return
        self.writing.join(limit)
        if self.writing.is_alive():
            return
        self.writing = None
        target = self._target(self.last_begun)
        if self.problem is None:
            self.last_saved = self.last_begun
            log.info("saved %s", target)
        elif isinstance(self.problem, NotSaved | OSError):
            no_more = self.is_last or self.lifeline.sentinel.stopping is not None
            goes_on = "" if no_more else "; training goes on, and the next save will try again"
            log.warning("%s was not saved (%s)%s", target, self.problem, goes_on)
        else:
            raise self.problem

    def _is_best(self, state: State, metrics: dict[str, float]) -> bool:
        """Whether the metric of `save_best` is better than ever: what rank 0 thinks of it."""
        best = self.settings.policy.best
        if best is None:
            return False
        better = self.settings.policy.is_better(metrics.get(best.metric), self.retention.best_metric)
        answer = state.device.tensor_to_device(torch.tensor([better], dtype=torch.uint8))
        dist.broadcast(answer, src=0)
        return bool(answer.item())

    def _target(self, batch: int) -> Path:
        return self.settings.save_folder / name_of(batch)


def ends(state: State) -> bool:
    """Whether training ends with this batch."""
    elapsed = state.get_elapsed_duration()
    return elapsed is not None and elapsed >= 1
