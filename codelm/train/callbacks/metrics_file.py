"""save_folder/metrics.jsonl: every metric of the run, a line a batch, without repeats after resuming."""

import math
from pathlib import Path
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination
from composer.utils import dist

from codelm.train.callbacks.lines import add_line, drop_later


class MetricsFile(LoggerDestination):
    """A line holds `batch`, the number of completed batches, and the metrics logged since the line before it.

    Metrics of an earlier batch that come late (`step`) have a line of their own, with that batch.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.pending: dict[str, float | str] = {}
        self.written = 0

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        numbers = {name: _number(value) for name, value in metrics.items()}
        if step is not None and step < self.written:
            if dist.get_global_rank() == 0:
                add_line(self.path, {"batch": step, **numbers})
        else:
            self.pending.update(numbers)

    def after_load(self, state: State, logger: Logger) -> None:
        """Drop the lines of batches that will be trained again: all of them when the run starts afresh."""
        if dist.get_global_rank() == 0:
            drop_later(self.path, int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def eval_after_all(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def eval_standalone_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def fit_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def _flush(self, state: State) -> None:
        if self.pending and dist.get_global_rank() == 0:
            add_line(self.path, {"batch": int(state.timestamp.batch), **self.pending})
        self.pending = {}
        self.written = int(state.timestamp.batch)


def _number(value: Any) -> float | str:
    """JSON has no NaN: what cannot be written is told apart from what was not measured."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
