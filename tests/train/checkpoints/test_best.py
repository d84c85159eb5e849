"""`save_best` saves when a metric is better than ever, keeps that checkpoint, and points to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from codelm.config.train import TrainConfig
from codelm.errors import ConfigError
from codelm.train.checkpoints.newest_metrics import NewestMetrics
from codelm.train.checkpoints.run_file import read_run
from codelm.train.run import train

METRIC = "metrics/python/BitsPerByte"


def config_of(tiny: dict[str, Any], corpus: Path, folder: Path, **changes: Any) -> TrainConfig:
    keys = {
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 2}},
        "eval_interval": "1ba",
        "save_interval": "3ba",
        "save_num_checkpoints_to_keep": 1,
        "max_duration": "6ba",
        "save_folder": str(folder),
    }
    return TrainConfig.model_validate({**tiny, **keys, **changes})


def test_a_checkpoint_has_the_metrics_of_its_own_batch() -> None:
    """Composer logs a batch's loss before it counts the batch; what is judged beside training comes batches later."""
    metrics = NewestMetrics()
    metrics.log_metrics({"metrics/python/BitsPerByte": 9.0}, step=0)
    metrics.take(0)
    metrics.log_metrics({"loss/train/total": 3.0}, step=0)
    assert metrics.take(1) == {"loss/train/total": 3.0}
    metrics.log_metrics({"eval/humaneval/pass@1": 0.5}, step=0)
    metrics.log_metrics({"loss/train/total": 2.0}, step=1)
    assert metrics.take(2) == {"loss/train/total": 2.0}


def test_an_evaluation_before_training_is_of_no_checkpoint(tiny: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    """With a rate that makes every batch worse, the first weights are the best, and are not saved."""
    config = config_of(
        tiny,
        corpus,
        tmp_path / "run",
        save_best={"metric": METRIC},
        optimizer={"name": "adamw", "lr": 0.3},
        eval_first=True,
        eval_interval="2ba",
        max_duration="2ba",
    )
    folder = train(config).parent
    assert [path.name for path in folder.glob("ba*")] == ["ba000002"]


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_best_stays_beside_the_newest(tiny: dict[str, Any], corpus: Path, tmp_path: Path, mode: str) -> None:
    """A rate so high that the metric gets worse after a while, so that best and newest differ."""
    best = {"metric": METRIC, "mode": mode}
    optimizer = {"name": "adamw", "lr": 0.3}
    folder = train(config_of(tiny, corpus, tmp_path / "run", save_best=best, optimizer=optimizer)).parent
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    measured = {row["batch"]: row[METRIC] for row in rows if METRIC in row and row["batch"]}
    wanted = (min if mode == "min" else max)(measured, key=lambda batch: measured[batch])
    assert (folder / "best").resolve().name == f"ba{wanted:06d}"
    assert read_run(folder / "best")["metrics"][METRIC] == measured[wanted]
    assert {path.name for path in folder.glob("ba*")} == {f"ba{wanted:06d}", "ba000006"}


def test_every_second_one_is_kept_for_good(tiny: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    config = config_of(tiny, corpus, tmp_path / "run", save_interval="1ba", save_keep_every="2ba", eval_data={})
    assert [path.name for path in sorted(train(config).parent.glob("ba*"))] == ["ba000002", "ba000004", "ba000006"]


def test_a_metric_that_no_validation_measures_is_refused_before_training(
    tiny: dict[str, Any], corpus: Path, tmp_path: Path
) -> None:
    best = {"metric": "metrics/pyton/BitsPerByte"}
    with pytest.raises(ConfigError, match=r"pyton/BitsPerByte is not measured .*; did you mean metrics/python"):
        train(config_of(tiny, corpus, tmp_path / "run", save_best=best))
