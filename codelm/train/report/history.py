"""What a run left: its metrics by name, its record, its samples."""

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.errors import CheckpointError
from codelm.train.callbacks.samples import SAMPLES_FILE
from codelm.train.checkpoints.folder import newest_checkpoint
from codelm.train.checkpoints.run_file import read_run

METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True)
class History:
    """A run, as far as it has come."""

    folder: Path
    metrics: dict[str, list[tuple[float, float]]]
    """(batch, value) in the order of the batches, by the metric's name."""
    run: dict[str, Any] | None
    """The newest checkpoint's `run.json`."""
    samples: list[dict[str, Any]]

    def last(self, name: str) -> float | None:
        """The newest value of a metric."""
        points = self.metrics.get(name)
        return points[-1][1] if points else None


def read_history(folder: Path) -> History:
    """Read a save_folder.

    Raises:
        CheckpointError: there are no metrics in it.
    """
    file = folder / METRICS_FILE
    if not file.is_file():
        raise CheckpointError(f"{folder} holds no {METRICS_FILE}, which a training run writes; name its save_folder")
    batches: dict[str, array[float]] = {}
    values: dict[str, array[float]] = {}
    for row in _rows(file):
        batch = row.pop("batch", None)
        for name, value in row.items():
            # What is not finite is written as a text.
            if isinstance(value, int | float) and isinstance(batch, int):
                batches.setdefault(name, array("d")).append(batch)
                values.setdefault(name, array("d")).append(value)
    newest = newest_checkpoint(folder)
    return History(
        folder=folder,
        # An evaluation that is judged beside training is written late.
        metrics={name: sorted(zip(batches[name], values[name], strict=True), key=_batch) for name in batches},
        run=read_run(newest) if newest is not None else None,
        samples=list(_rows(folder / SAMPLES_FILE)) if (folder / SAMPLES_FILE).is_file() else [],
    )


def _batch(point: tuple[float, float]) -> float:
    return point[0]


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # A line that a kill cut short.
            if isinstance(row, dict):
                yield row
