"""MLflow: a tracking server, or a folder of files."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from codelm.config.training.loggers import MlflowSection
from codelm.train.loggers.destination import Destination, Opener, Row, RunInfo

_BATCH = 900
"""Metrics in a request; the server takes 1,000."""
_LONGEST = 500
_NOT_IN_A_NAME = re.compile(r"[^-\w. :/]")


class _Run:
    def __init__(self, section: MlflowSection, folder: Path, run: RunInfo) -> None:
        # mlflow 3 reports its use when it is imported, wherever it keeps the run.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.entities import Metric  # pyright: ignore[reportMissingImports]
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self.metric: Any = Metric
        uri = section.tracking_uri or (folder / "mlflow").resolve().as_uri()
        if uri.startswith("file:"):
            # mlflow 3 asks for it; a folder of files needs no database, and mlflow-skinny has none.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self.client: Any = MlflowClient(tracking_uri=uri)
        self.id = self._run_id(section.experiment_name or run.name, run, folder / "mlflow_run_id")

    def write(self, rows: list[Row]) -> None:
        metrics = [
            self.metric(_allowed(name), value, int(1000 * row.seconds), row.batch)
            for row in rows
            for name, value in row.metrics.items()
        ]
        for start in range(0, len(metrics), _BATCH):
            self.client.log_batch(self.id, metrics=metrics[start : start + _BATCH])
        for row in rows:
            for name, table in row.tables.items():
                # As its log_table writes them, which needs pandas.
                content = {"columns": table.columns, "data": table.rows}
                self.client.log_dict(self.id, content, f"{_allowed(name)}/batch_{row.batch}.json")

    def close(self) -> None:
        self.client.set_terminated(self.id)

    def _run_id(self, experiment: str, run: RunInfo, file: Path) -> str:
        if file.is_file():
            known = file.read_text().strip()
            self.client.update_run(known, status="RUNNING")
            return known
        found = self.client.get_experiment_by_name(experiment)
        number = found.experiment_id if found is not None else self.client.create_experiment(experiment)
        made = self.client.create_run(number, run_name=run.name).info.run_id
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made)
        for name, value in _flat(run.config):
            self.client.log_param(made, _allowed(name), str(value)[:_LONGEST])
        return made


def mlflow_run(section: MlflowSection, folder: Path) -> Opener:
    """A run of an experiment."""

    def open_(run: RunInfo) -> Destination:
        return _Run(section, folder, run)

    return open_


def _allowed(name: str) -> str:
    """The name as mlflow takes it: one that it refuses would keep all others out."""
    return _NOT_IN_A_NAME.sub("_", name)


def _flat(fields: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(fields, dict) and fields:
        for name, value in fields.items():
            yield from _flat(value, f"{above}{name}.")
    elif above:
        yield above[:-1], fields
