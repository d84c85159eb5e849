"""metrics.jsonl holds each batch once, whatever was killed and resumed."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from codelm.train.callbacks.metrics_file import MetricsFile


def state(batch: int) -> Any:
    return SimpleNamespace(timestamp=SimpleNamespace(batch=batch))


def train(path: Path, first: int, last: int, loss: float) -> None:
    metrics = MetricsFile(path)
    metrics.after_load(state(first), None)  # pyright: ignore
    for batch in range(first, last):
        metrics.log_metrics({"loss/train/total": loss, "bad": float("nan")})
        metrics.batch_end(state(batch + 1), None)  # pyright: ignore


def test_batches_trained_again_replace_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    train(path, 0, 5, loss=1.0)
    with path.open("a") as file:
        file.write('{"batch": 6, "loss/tr')  # a kill in the middle of a line
    train(path, 3, 6, loss=2.0)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["batch"], row["loss/train/total"]) for row in rows] == [
        (1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0),
    ]  # fmt: skip
    assert rows[0]["bad"] == "nan"


def test_a_run_from_the_start_begins_the_file_anew(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    train(path, 0, 2, loss=1.0)
    train(path, 0, 1, loss=2.0)
    assert len(path.read_text().splitlines()) == 1


def test_what_comes_late_has_a_line_with_its_own_batch(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    for batch in range(1, 4):
        metrics.log_metrics({"loss/train/total": 1.0}, step=batch - 1)
        if batch == 3:
            metrics.log_metrics({"eval/humaneval/pass@1": 0.5}, step=1)
        metrics.batch_end(state(batch), None)  # pyright: ignore
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["batch"] for row in rows] == [1, 2, 1, 3]
    assert rows[2] == {"batch": 1, "eval/humaneval/pass@1": 0.5}
    assert "eval/humaneval/pass@1" not in rows[3]
