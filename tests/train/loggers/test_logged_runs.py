"""A run's loss, validation and code evaluation arrive in every logger that it names, read with the loggers' readers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient
from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]
from wandb.sdk.internal.datastore import DataStore

from codelm.config.train import TrainConfig
from codelm.train.run import train

LOSS, BITS, SCORE = "loss/train/total", "metrics/python/BitsPerByte", "eval/humaneval/pass@1"
SAMPLES = "eval/humaneval/samples"
Points = dict[int, float]


@pytest.fixture(scope="module")
def save_folder(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run with every logger, none of which needs a network."""
    folder = tmp_path_factory.mktemp("logged") / "run"
    settings = {
        "run_name": "logged",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 16, "n_heads": 2, "n_layers": 1},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 2}},
        "callbacks": {"code_eval": {"interval": "4ba", "tasks": {"humaneval": {"limit": 1, "max_new_tokens": 2}}}},
        "loggers": {"tensorboard": {}, "wandb": {"project": "p", "mode": "offline"}, "mlflow": {}},
        "optimizer": {"name": "lionw", "lr": 1e-3},
        "max_duration": "4ba",
        "eval_interval": "2ba",
        "global_train_batch_size": 2,
        "device_train_microbatch_size": 2,
        "device": "cpu",
        "save_folder": str(folder),
        "save_interval": "4ba",
    }
    train(TrainConfig.model_validate(settings))
    return folder


@pytest.fixture(scope="module")
def written(save_folder: Path) -> dict[str, Points]:
    """What the metrics file has, which is always written."""
    found: dict[str, Points] = {LOSS: {}, BITS: {}, SCORE: {}}
    for line in (save_folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name in found.keys() & row.keys():
            found[name][row["batch"]] = row[name]
    assert [*found[LOSS]] == [1, 2, 3, 4]
    assert [*found[BITS]] == [2, 4]
    assert [*found[SCORE]] == [4]
    return found


def same(found: Points, written: Points) -> bool:
    return found == {batch: pytest.approx(value, rel=1e-6) for batch, value in written.items()}


def test_in_tensorboard(save_folder: Path, written: dict[str, Points]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(save_folder / "tensorboard"))
    events.Reload()
    for name, points in written.items():
        assert same({event.step: event.value for event in events.Scalars(name)}, points)
    (samples,) = events.Tensors(f"{SAMPLES}/text_summary")
    assert samples.step == 4
    assert b"HumanEval/0" in samples.tensor_proto.string_val[0]


def history(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of wandb."""
    store = DataStore()
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        items = Record.FromString(data).history.item
        yield {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_in_wandbs_offline_run(save_folder: Path, written: dict[str, Points]) -> None:
    (file,) = (save_folder / "wandb").rglob("*.wandb")
    rows = [*history(file)]
    for name, points in written.items():
        assert same({row["batch"]: row[name] for row in rows if name in row}, points)
    (table,) = [row[f"{SAMPLES}.path"] for row in rows if f"{SAMPLES}.path" in row]
    assert "HumanEval/0" in (file.parent / "files" / table).read_text()


def test_in_mlflows_store(save_folder: Path, written: dict[str, Points]) -> None:
    client = MlflowClient(tracking_uri=(save_folder / "mlflow").as_uri())
    run = client.get_run((save_folder / "mlflow_run_id").read_text())
    assert run.info.status == "FINISHED"
    for name, points in written.items():
        metrics = client.get_metric_history(run.info.run_id, name.replace("@", "_"))
        assert same({metric.step: metric.value for metric in metrics}, points)
    assert [file.path for file in client.list_artifacts(run.info.run_id, SAMPLES)] == [f"{SAMPLES}/batch_4.json"]
