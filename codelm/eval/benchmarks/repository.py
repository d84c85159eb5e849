"""A repository's own functions with gaps, judged by its own unit tests (docs/repository_benchmark.md)."""

import shutil
from functools import partial
from pathlib import Path

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import RepositorySection
from codelm.errors import EvaluationError
from codelm.eval import results
from codelm.eval.problem import Benchmark, Problem
from codelm.eval.repository import manifest
from codelm.eval.repository.context import commented
from codelm.eval.repository.copy import unpack
from codelm.eval.repository.environment import inspect_environment
from codelm.eval.repository.items import Item, items_of_tests
from codelm.eval.repository.judge import RepositoryJudge
from codelm.eval.repository.outcome import JUDGE


def load(section: RepositorySection) -> Benchmark:
    """The gaps that tests judge, in an order drawn by a hash, so that the first ones are a fair part.

    Raises:
        EvaluationError: the folder holds no finished benchmark, or none that tests judge, or the repository's
            environment is gone.
    """
    folder = Path(section.path).expanduser()
    about, rows = manifest.read(folder)
    python = section.python or about["interpreter"]
    if python is None:
        raise EvaluationError(f"{folder} was built without --python: nothing in it is judged by tests")
    environment = inspect_environment(python, f"`python` of {folder}")
    tree = unpack(folder / manifest.ARCHIVE)
    try:
        items = [item for item in items_of_tests(folder, rows, tree) if item.kind in section.masks]
    finally:
        shutil.rmtree(tree, ignore_errors=True)
    if not items:
        raise EvaluationError(f"{folder} holds no {' or '.join(section.masks)} that tests judge: name other `masks`")
    items.sort(key=lambda item: results.text_hash(item.id))
    return Benchmark(
        name="repository",
        title="repository",
        problems=[_problem(item, section) for item in items],
        open_judge=partial(_open_judge, folder, python),
        versions={
            "repository": about["settings"]["repository_sha256"],
            "repository_python": ".".join(map(str, environment.version)),
            "pytest": environment.pytest,
        },
    )


def _problem(item: Item, section: RepositorySection) -> Problem:
    return Problem(
        task_id=item.id,
        prompt=item.prefix,
        gold=item.gold,
        suffix=item.suffix,
        context=commented(item.context) if section.prompt == "repository" else "",
        left_to_right=section.form == "left_to_right",
        test="\n".join(item.tests),
        judge=JUDGE,
        form="gap",
        language=item.language,
        kind=item.kind,
        # Of a whole body there are too many right ones for a comparison to say much.
        compared=item.kind != "body",
    )


def _open_judge(folder: Path, python: str, sandbox: SandboxSection) -> RepositoryJudge:
    return RepositoryJudge(folder, python, sandbox.num_workers, sandbox.min_level)
