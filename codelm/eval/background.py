"""Judging in a process of its own, while whoever generated goes on: `python -m codelm.eval.background FOLDER SANDBOX`.

A folder holds a folder for each benchmark, with settings.json, samples.jsonl, gold.jsonl and `judging.json`, which says
how to judge; verdicts, summary and report join them. Ended at any moment, the same command goes on.
"""

import fcntl
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import TaskSection, TasksSection, tasks_of
from codelm.errors import EvaluationError
from codelm.eval import results
from codelm.eval.assess import assess
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.postprocess import PROFILES
from codelm.eval.records import Completion

REQUEST = "judging.json"
_NICE = 10


def leave_to_judge(
    folder: Path,
    name: str,
    section: TaskSection,
    settings: dict[str, Any],
    completions: Sequence[Completion],
    gold: Sequence[dict[str, Any]],
) -> None:
    """Put a benchmark's completions where `judge_folder` finds them: the folder `name` in `folder`."""
    place = folder / name
    place.mkdir(parents=True)
    results.write_json(place / results.SETTINGS, settings)
    results.write_lines(place / results.SAMPLES, (completion.to_dict() for completion in completions))
    results.write_lines(place / results.GOLD, gold)
    results.write_json(place / REQUEST, {"tasks": tasks_of(name, section)})


def judge_folder(folder: Path, sandbox: SandboxSection) -> None:
    """Judge and score all benchmarks in a folder that are not scored yet; another process may be at it already.

    Raises:
        EvaluationError: of some benchmarks the problems are gone, or the sandbox is below its floor; the others are
            judged.
    """
    failures = []
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for place in unjudged(folder):
            try:
                _judge(place, sandbox)
            except Exception as error:  # the folder is a user's, and the next benchmark another matter
                failures.append(f"{place.name}: {type(error).__name__}: {error}")
    if failures:
        raise EvaluationError("; ".join(failures))


def unjudged(folder: Path) -> list[Path]:
    """The benchmarks' folders that wait for their scores."""
    places = sorted(path.parent for path in folder.glob(f"*/{REQUEST}"))
    return [place for place in places if not (place / results.SUMMARY).exists()]


def _judge(place: Path, sandbox: SandboxSection) -> None:
    request = json.loads((place / REQUEST).read_text(encoding="utf-8"))
    ((name, section),) = TasksSection.model_validate(request["tasks"]).chosen().items()
    settings = json.loads((place / results.SETTINGS).read_text(encoding="utf-8"))
    completions = [Completion(**row) for row in results.read_lines(place / results.SAMPLES)]
    gold = {row["task_id"]: row for row in results.read_lines(place / results.GOLD)}
    benchmark = load_benchmark(name, section)
    with benchmark.open_judge(sandbox) as judge:
        settings |= {"sandbox": judge.isolation.level, "limits": judge.limits.to_dict()}
        assess(judge, benchmark, completions, gold, PROFILES[section.postprocess], settings, place)


def main() -> None:
    """Judge the folder that the command line names, within the bounds that stand behind it as JSON."""
    os.nice(_NICE)  # training comes first
    judge_folder(Path(sys.argv[1]), SandboxSection.model_validate_json(sys.argv[2]))


if __name__ == "__main__":
    main()
