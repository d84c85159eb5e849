"""Judging beside training: in order, once, through crashes of the judge and of the run."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import CustomSection, HumanEvalSection
from codelm.eval.benchmarks import humaneval
from codelm.eval.records import Completion
from codelm.train.callbacks import judging as module
from codelm.train.callbacks.judging import Judging

SECTION = HumanEvalSection(limit=2)


class Recorder:
    """What a Composer Logger is told."""

    def __init__(self) -> None:
        self.metrics: list[tuple[int, dict[str, float]]] = []
        self.tables: list[tuple[int, str, list[list[Any]]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.metrics.append((step, metrics))

    def log_table(self, columns: list[str], rows: list[list[Any]], name: str, step: int) -> None:
        self.tables.append((step, name, rows))


def written(right: int) -> dict[str, Any]:
    """What a model wrote that solves the first `right` of two problems."""
    problems = humaneval.load_problems(2)
    texts = [problem.gold if place < right else "    pass\n" for place, problem in enumerate(problems)]
    completions = [
        Completion(problem.task_id, 0, [1], 0, "", [2], text, "eos")
        for problem, text in zip(problems, texts, strict=True)
    ]
    return {"humaneval": {"section": SECTION, "settings": {"seed": 1}, "completions": completions, "gold": []}}


@pytest.fixture
def judge(tmp_path: Path) -> Judging:
    return Judging(tmp_path / "code_eval", SandboxSection(num_workers=1))


def test_results_are_logged_once_with_their_batches(judge: Judging) -> None:
    logger: Any = Recorder()
    judge.begin(10, written(2))
    judge.begin(20, written(1))
    judge.log_results(logger, 21)
    assert logger.metrics == [], "nothing is waited for"
    judge.wait()
    judge.log_results(logger, 10)
    assert logger.metrics == [], "a result is of an earlier batch"
    judge.log_results(logger, 31)
    judge.log_results(logger, 32)
    assert logger.metrics == [(10, {"eval/humaneval/pass@1": 1.0}), (20, {"eval/humaneval/pass@1": 0.5})]
    assert [(step, name) for step, name, _ in logger.tables] == [
        (10, "eval/humaneval/samples"),
        (20, "eval/humaneval/samples"),
    ]
    assert [row[:2] for row in logger.tables[1][2]] == [["HumanEval/0", "passed"], ["HumanEval/1", "failed"]]


def test_a_benchmark_that_cannot_be_judged_takes_none_with_it(judge: Judging, caplog: pytest.LogCaptureFixture) -> None:
    logger: Any = Recorder()
    gone = {"section": CustomSection(load="nowhere:load"), "settings": {}, "completions": [], "gold": []}
    with caplog.at_level("WARNING"):
        judge.begin(10, {"absent": gone, **written(1)})
        judge.wait()
    judge.log_results(logger, 20)
    assert logger.metrics == [(10, {"eval/humaneval/pass@1": 0.5})]
    assert "the judging of absent at batch 10 failed" in caplog.text
    assert "nowhere:load cannot be imported" in caplog.text


def test_a_judge_that_crashes_is_started_again_once_and_then_left_out(
    judge: Judging, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "python"
    broken.write_text(f'#!/bin/sh\necho x >> {tmp_path}/starts\necho "all is lost" >&2\nexit 3\n')
    broken.chmod(0o755)
    monkeypatch.setattr(module, "sys", SimpleNamespace(executable=str(broken), path=[]))
    logger: Any = Recorder()
    with caplog.at_level("WARNING"):
        judge.begin(10, written(2))
        judge.wait()
    assert (tmp_path / "starts").read_text().count("x") == 2
    assert "the judging of humaneval at batch 10 failed (exit code 3): all is lost" in caplog.text
    monkeypatch.setattr(module, "sys", sys)
    judge.begin(20, written(1))
    judge.wait()
    judge.log_results(logger, 30)
    assert [step for step, _ in logger.metrics] == [20]


def test_a_run_that_was_killed_goes_on_with_the_judging(tmp_path: Path) -> None:
    first = Judging(tmp_path, SandboxSection(num_workers=1))
    logger: Any = Recorder()
    first.begin(10, written(2))
    first.wait()
    first.log_results(logger, 12)
    first.begin(20, written(1))
    first.begin(30, written(0))
    first.stop()

    second = Judging(tmp_path, SandboxSection(num_workers=1))
    second.resume(25)
    assert not (tmp_path / "ba000030").exists(), "batch 30 will come again, with other weights"
    second.wait()
    second.log_results(logger, 26)
    assert [step for step, _ in logger.metrics] == [10, 20]
    Judging(tmp_path, SandboxSection()).resume(0)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_training_goes_on_at_once(judge: Judging) -> None:
    started = time.monotonic()
    judge.begin(10, written(2))
    assert time.monotonic() - started < 1.0
    judge.stop()
    assert not (judge.folder / "ba000010" / "humaneval" / "summary.json").exists()


def test_what_is_left_behind_says_how_it_is_judged(judge: Judging) -> None:
    judge.begin(10, written(2))
    judge.stop()
    folder = judge.folder / "ba000010" / "humaneval"
    request = json.loads((folder / "judging.json").read_text())
    assert request["tasks"]["humaneval"]["limit"] == 2
    assert len((folder / "samples.jsonl").read_text().splitlines()) == 2
