"""What one sees while training: a bar with ETA on a terminal, a line now and then elsewhere; validation results."""

import math
import sys
import time
from typing import TextIO

from composer import Callback, Logger, State
from composer.utils import dist
from tqdm import tqdm

from codelm.train.callbacks.speed import SpeedMonitor

_LINE_SECONDS = 10.0
_SLOW_LOADER = 0.05


class Progress(Callback):
    """Loss, speed as the monitor before it measures it, learning rate and time to finish."""

    def __init__(self, total_batches: int, speed: SpeedMonitor, stream: TextIO = sys.stderr) -> None:
        self.total_batches = total_batches
        self.speed = speed
        self.stream = stream
        self.bar: tqdm | None = None
        self.line_printed = self.began = time.monotonic()
        self.first_batch = 0
        self.learning_rate = math.nan

    def fit_start(self, state: State, logger: Logger) -> None:
        self.began = time.monotonic()
        self.first_batch = int(state.timestamp.batch)
        if dist.get_global_rank() == 0 and self.stream.isatty():
            self.bar = tqdm(
                total=self.total_batches, initial=self.first_batch, unit="ba", file=self.stream, dynamic_ncols=True
            )

    def batch_start(self, state: State, logger: Logger) -> None:
        # At the end of the batch the schedule already holds the next one's.
        self.learning_rate = state.schedulers[0].get_last_lr()[0]

    def batch_end(self, state: State, logger: Logger) -> None:
        now = time.monotonic()
        loss = float((state.total_loss_dict or {}).get("loss/train/total", math.nan))
        logger.log_metrics({"lr": self.learning_rate})
        if dist.get_global_rank() != 0:
            return
        batch = int(state.timestamp.batch)
        text = f"loss {loss:.3f}, {self._speed()}, lr {self.learning_rate:.2e}"
        if self.bar is not None:
            self.bar.set_postfix_str(text, refresh=False)
            self.bar.update(batch - self.bar.n)
        elif batch == self.first_batch + 1 or batch == self.total_batches or now - self.line_printed > _LINE_SECONDS:
            self.line_printed = now
            left = (now - self.began) / (batch - self.first_batch) * (self.total_batches - batch)
            self._say(f"batch {batch}/{self.total_batches}: {text}, {tqdm.format_interval(left)} left")

    def eval_after_all(self, state: State, logger: Logger) -> None:
        self._report(state)

    def eval_standalone_end(self, state: State, logger: Logger) -> None:
        self._report(state)

    def fit_end(self, state: State, logger: Logger) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def close(self, state: State, logger: Logger) -> None:
        self.fit_end(state, logger)

    def _report(self, state: State) -> None:
        # Every rank computes: reading a metric sums it over the ranks.
        values = {label: float(found["BitsPerByte"].compute()) for label, found in state.eval_metrics.items()}
        if dist.get_global_rank() == 0 and values:
            each = ", ".join(f"{label} {value:.3f}" for label, value in values.items())
            self._say(f"batch {int(state.timestamp.batch)}: validation bits per byte: {each}")

    def _speed(self) -> str:
        text = f"{self.speed.tokens_per_second:,.0f} tok/s"
        if self.speed.mfu is not None:
            text += f", MFU {self.speed.mfu:.1%}"
        if self.speed.waiting > _SLOW_LOADER:
            text += f", {self.speed.waiting:.0%} waiting for data"
        return text

    def _say(self, line: str) -> None:
        if self.bar is not None:
            self.bar.write(line, file=self.stream)
        else:
            print(line, file=self.stream, flush=True)
