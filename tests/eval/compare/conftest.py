"""Evaluations as eval/main.py leaves them, made without a model: which problems passed is said, all else is real."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from codelm.config.evaluation.tasks import HumanEvalSection
from codelm.eval import results
from codelm.eval.benchmarks import humaneval
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.compare.folders import System, read_system
from codelm.eval.judge.verdict import Verdict
from codelm.eval.records import Judged
from codelm.eval.sandbox.confine import Isolation
from codelm.eval.scoring import Result, gold_score, pass_scores

PROFILE = "humaneval-1"
Build = Callable[..., Path]


@pytest.fixture(scope="session")
def references() -> list[Any]:
    return humaneval.load_problems()


@pytest.fixture
def humaneval_results(references: list[Any], tmp_path: Path) -> Build:
    """Make an evaluation on HumanEval's first problems: what passed (a sample or a list), bits per byte."""

    def build(name: str, passed: Sequence[bool | Sequence[bool]], bits: Sequence[float] = (), **changed: Any) -> Path:
        section = HumanEvalSection(limit=len(passed))
        benchmark = load_benchmark("humaneval", section)
        settings = {
            "benchmark": "humaneval",
            "problems": len(passed),
            "problems_sha256": benchmark.sha256(),
            "prompts_sha256": benchmark.prompts_sha256(),
            "checkpoint": f"runs/{name}",
            "seed": 17,
            **section.model_dump(exclude={"postprocess", "gold"}),
            "end_at": "program-2",
            "dtype": "float32",
            "versions": {"codelm": "1", "torch": "2.11.0"},
            "sandbox": "landlock",
            "weights_sha256": name,
            **changed,
        }
        judged = [
            Judged(problem.task_id, sample, problem.gold if right else "    pass\n", verdict(problem.task_id, right))
            for problem, samples in zip(benchmark.problems, passed, strict=True)
            for sample, right in enumerate([samples] if isinstance(samples, bool) else samples)
        ]
        gold = [
            {"task_id": problem.task_id, "bits": 100 * value, "bytes": 100}
            for problem, value in zip(benchmark.problems, bits, strict=False)
        ]
        scores = pass_scores(judged, {}) + ([gold_score(gold, {})] if gold else [])
        isolation = Isolation("landlock", True, 6, True)
        result = Result("humaneval", "HumanEval", PROFILE, {score.name: score for score in scores}, judged, isolation)
        folder = tmp_path / "runs" / name / "eval" / "humaneval"
        folder.mkdir(parents=True)
        results.write_json(folder / results.SETTINGS, settings)
        results.write_lines(results.verdicts_file(folder, PROFILE), (one.to_dict() for one in judged))
        results.write_lines(folder / results.SAMPLES, [])
        if gold:
            results.write_lines(folder / results.GOLD, gold)
        results.write_json(folder / results.SUMMARY, result.summary())
        return folder.parent

    return build


@pytest.fixture
def other_results(tmp_path: Path) -> Build:
    """Add a benchmark of any kind to an evaluation: lines of numbers, verdicts or none."""

    def build(
        parent: Path, benchmark: str, lines: Sequence[Mapping[str, Any]], passed: Mapping[str, bool] | None = None,
        **changed: Any,
    ) -> Path:  # fmt: skip
        folder = parent / benchmark
        folder.mkdir(parents=True)
        settings = {"benchmark": benchmark, "checkpoint": parent.parent.name, "problems_sha256": "0", **changed}
        results.write_json(folder / results.SETTINGS, settings)
        if lines:
            results.write_lines(folder / "values.jsonl", map(dict, lines))
        if passed is not None:
            rows = [Judged(task_id, 0, "x", verdict(task_id, right)).to_dict() for task_id, right in passed.items()]
            results.write_lines(results.verdicts_file(folder, PROFILE), rows)
        results.write_json(folder / results.SUMMARY, {"benchmark": benchmark, "title": benchmark, "profile": PROFILE})
        return parent

    return build


@pytest.fixture
def system() -> Callable[[Path], System]:
    """Read an evaluation; the run's folder is its name."""
    return lambda folder: read_system(folder.parent.name, folder)


def verdict(task_id: str, right: bool) -> Verdict:
    kind, detail = ("passed", "") if right else ("failed", "AssertionError: assert candidate(1) == 2")
    return Verdict(task_id, kind, detail, 0.01, 0.01, "landlock")


def read(path: Path) -> Any:
    return json.loads(path.read_text())
