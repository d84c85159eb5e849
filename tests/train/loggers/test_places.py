"""TensorBoard, Weights & Biases and MLflow themselves, read back with their own readers; nothing phones home."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from codelm.config.training.loggers import MlflowSection, WandbSection
from codelm.train.loggers.destination import Row, RunInfo, Table
from codelm.train.loggers.mlflow_run import mlflow_run
from codelm.train.loggers.tensorboard import tensorboard
from codelm.train.loggers.wandb_run import wandb_run

RUN = RunInfo("a-run", {"optimizer": {"lr": 1e-3}, "seed": 17})
ROWS = [Row(batch, 1000.0 + batch, {"loss": 1.0 / batch}) for batch in range(1, 6)]


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    place = tensorboard(tmp_path)(RUN)
    place.write(ROWS)
    place.close()
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (row.batch, pytest.approx(row.metrics["loss"])) for row in ROWS
    ]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every address that is connected to, none of which is reached, but for wandb's own process on this machine."""
    tried: list[Any] = []
    connect = socket.socket.connect

    def watched(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "localhost", "::1"):
            return connect(self, address)
        tried.append(address)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", watched)
    return tried


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_wandb_offline_and_disabled_send_nothing(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    opener = wandb_run(WandbSection(project="p"), tmp_path / "wandb")
    for rows in (ROWS[:3], ROWS[3:]):
        place = opener(RUN)  # The second time as a run that goes on.
        place.write(rows)
        place.close()
    files = [*(tmp_path / "wandb").rglob("*.wandb")]
    assert len(files) == (2 if mode == "offline" else 0)
    assert no_network == []


def test_wandb_without_a_key_stays_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    place = wandb_run(WandbSection(project="p"), tmp_path / "wandb")(RUN)
    place.write(ROWS)
    place.close()
    assert "no API key is known, so the run is kept offline" in caplog.text
    assert [*(tmp_path / "wandb").rglob("*.wandb")]


def test_mlflow_keeps_a_run_that_goes_on_as_one(tmp_path: Path) -> None:
    section = MlflowSection(experiment_name="e", tracking_uri=(tmp_path / "store").as_uri())
    opener = mlflow_run(section, tmp_path)
    for rows in (ROWS[:3], ROWS[3:]):
        place = opener(RUN)
        place.write(rows)
        place.close()
    client = MlflowClient(tracking_uri=section.tracking_uri)
    experiment = client.get_experiment_by_name("e")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(row.batch, row.metrics["loss"]) for row in ROWS]
    assert run.data.params["optimizer.lr"] == "0.001"
    assert run.info.status == "FINISHED"


def test_mlflow_takes_every_name_and_table(tmp_path: Path) -> None:
    """It refuses characters that ours have, and makes tables with pandas, which mlflow-skinny goes without."""
    table = Table(["prompt", "completion"], [["def f(", "x):"]])
    place = mlflow_run(MlflowSection(), tmp_path)(RunInfo("a-run", {"mixture": {"c++": 1.0}}))
    place.write([Row(3, 1000.0, {"eval/humaneval/pass@1": 0.5, "metrics/c++/BitsPerByte": 2.0}, {"samples": table})])
    place.close()
    client = MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    run = client.get_run((tmp_path / "mlflow_run_id").read_text())
    assert run.data.metrics == {"eval/humaneval/pass_1": 0.5, "metrics/c__/BitsPerByte": 2.0}
    assert run.data.params == {"mixture.c__": "1.0"}
    kept = client.download_artifacts(run.info.run_id, "samples/batch_3.json", str(tmp_path))
    assert json.loads(Path(kept).read_text()) == {"columns": table.columns, "data": table.rows}


REPORTING = """
import socket, sys, time
from pathlib import Path

asked = []

def watched(host, *more, **named):
    asked.append(host)
    raise OSError("no network here")

socket.getaddrinfo = watched

from codelm.config.training.loggers import MlflowSection
from codelm.train.loggers.destination import RunInfo
from codelm.train.loggers.mlflow_run import mlflow_run

mlflow_run(MlflowSection(), Path(sys.argv[1]))(RunInfo("a-run", {})).close()
time.sleep(0.5)
print(asked)
"""


def test_mlflow_in_a_folder_asks_for_no_host(tmp_path: Path) -> None:
    """Outside of tests, where it keeps silent by itself."""
    testing = ("PYTEST", "CI", "GITHUB_ACTIONS", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(testing)}
    found = subprocess.run(
        [sys.executable, "-c", REPORTING, str(tmp_path)], capture_output=True, text=True, check=True, env=quiet
    )
    assert found.stdout.endswith("[]\n")


def test_no_service_is_imported_that_was_not_asked_for() -> None:
    script = "import sys, codelm.train.loggers.build; print([m for m in ('wandb', 'mlflow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n")
