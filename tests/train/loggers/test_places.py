"""TensorBoard, Weights & Biases and MLflow themselves, read back with their own readers; nothing phones home."""

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from codelm.config.training.loggers import MlflowSection, WandbSection
from codelm.train.loggers.destination import Row, RunInfo
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
    pytest.importorskip("mlflow")
    section = MlflowSection(experiment_name="e", tracking_uri=(tmp_path / "store").as_uri())
    opener = mlflow_run(section, tmp_path)
    for rows in (ROWS[:3], ROWS[3:]):
        place = opener(RUN)
        place.write(rows)
        place.close()
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=section.tracking_uri)
    experiment = client.get_experiment_by_name("e")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(row.batch, row.metrics["loss"]) for row in ROWS]
    assert run.data.params["optimizer.lr"] == "0.001"
    assert run.info.status == "FINISHED"


def test_no_service_is_imported_that_was_not_asked_for() -> None:
    import subprocess

    script = "import sys, codelm.train.loggers.build; print([m for m in ('wandb', 'mlflow') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n")
