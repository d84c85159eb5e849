"""Builds a benchmark of a repository: copy, held-out files, tests, candidates and masks, gates, manifest.

Everything that takes time is kept in `work/` of the output folder as soon as it is known, so that the same command goes
on where it stopped; with other settings, or a repository that has changed, it refuses.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from codelm.eval import results
from codelm.eval.judge.pool import available_cores
from codelm.eval.repository import manifest
from codelm.eval.repository.collect import Progress
from codelm.eval.repository.copy import copy_repository, pack
from codelm.eval.repository.environment import inspect_environment
from codelm.eval.repository.exclusion import without_unfindable
from codelm.eval.repository.executable import executable_rows
from codelm.eval.repository.heldout import HeldOut, hold_out
from codelm.eval.repository.outcome import JUDGE
from codelm.eval.repository.settings import BuildSettings, Built


def build(
    source: str,
    python: str | None,
    output: Path,
    settings: BuildSettings,
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> Built:
    """Build a benchmark of a repository into a folder.

    Args:
        python: the interpreter of its environment, with pytest; None builds only what needs no tests.
        workers: runs of pytest at once; None means one a core.

    Raises:
        EvaluationError: the repository, the interpreter or the folder cannot be used.
        EnvironmentFailure: no worker can be started.
    """
    environment = inspect_environment(python) if python else None
    output = output.expanduser().absolute()
    work = output / "work"
    with _temporary_folder() as temporary:
        repository = copy_repository(source, temporary / "pristine", output)
        record = {
            "repository": repository.name,
            "repository_sha256": repository.sha256,
            "commit": repository.commit,
            "licence": repository.licence,
            "python": environment and {"version": list(environment.version), "pytest": environment.pytest},
            **asdict(settings),
        }
        results.open_folder(output, record)
        work.mkdir(exist_ok=True)
        built = Built(repository, output)
        held_out = hold_out(repository, settings.held_out, settings.most_held_out, settings.seed)
        built.held_out = _count_held_out(held_out)
        rows = [held.to_row(repository, repository.name) for held in held_out]
        if environment is None:
            built.troubles.append(
                "no --python was given: nothing is judged by tests, only lines and blocks are compared"
            )
        else:
            pack(repository, output / manifest.ARCHIVE)
            rows = (
                executable_rows(repository, environment, settings, workers or available_cores(), work, built, progress)
                + rows
            )
            rows = without_unfindable(rows, built)
        interpreter = environment and environment.python
        about = {"settings": record, "judge": JUDGE, "interpreter": interpreter, **built.summary()}
        manifest.write(output, rows, about)
    return built


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="codelm-build-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _count_held_out(held_out: list[HeldOut]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for held in held_out:
        count = counts.setdefault(held.language, Counter())
        count["files"] += 1
        count.update(f"{kind}s" for kind, _, _ in held.items)
    return {language: dict(count) for language, count in counts.items()}
