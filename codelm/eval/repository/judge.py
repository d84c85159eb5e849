"""Judges completions of a finished benchmark in its own environment (`codelm.eval.judge.contract`)."""

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from codelm.errors import EvaluationError
from codelm.eval.judge.pool import available_cores
from codelm.eval.judge.verdict import Job, Verdict
from codelm.eval.repository import manifest
from codelm.eval.repository.copy import compile_files, unpack
from codelm.eval.repository.environment import inspect_environment
from codelm.eval.repository.gates import cpu_limit
from codelm.eval.repository.items import load
from codelm.eval.repository.outcome import JUDGE, judging_run, limits, outcome
from codelm.eval.repository.runner import Runner
from codelm.eval.repository.worker import Ran, Run, Setup


class RepositoryJudge:
    """Warm workers for a benchmark's repository; a context manager.

    Args:
        folder: of the finished benchmark.
        python: the interpreter of the environment, where it is not the one that the benchmark was built with.

    Raises:
        EvaluationError: the benchmark or the interpreter cannot be used, or this machine isolates too little.
        EnvironmentFailure: no worker can be started.
    """

    def __init__(self, folder: Path, python: str | None = None, workers: int | None = None, min_level: str = "rlimits"):
        about, _ = manifest.read(folder)
        if about["interpreter"] is None:
            raise EvaluationError(f"{folder} was built without --python: nothing in it is judged by tests")
        environment = inspect_environment(python or about["interpreter"], f"`python` of {folder}")
        self.max_seconds = about["settings"]["gates"]["max_seconds"]
        self.limits = limits(math.ceil(self.max_seconds), 5 * self.max_seconds)
        self.tree = unpack(folder / manifest.ARCHIVE)
        try:
            compile_files(self.tree, environment.python)
            self.benchmark = load(folder, self.tree)
            self.items = {item.id: item for item in self.benchmark.executable}
            setup = Setup(
                environment=environment,
                pristine=self.tree,
                origin=about["origin"],
                roots=tuple(about["import_roots"]),
                own=frozenset(about["top_level_names"]),
                addopts=about["addopts"],
                preload=tuple(about["modules"]),
            )
            self.runner = Runner(setup, workers or available_cores(), min_level)
        except BaseException:
            shutil.rmtree(self.tree, ignore_errors=True)
            raise
        self.isolation = self.runner.isolation

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and remove the copies."""
        self.runner.close()
        shutil.rmtree(self.tree, ignore_errors=True)

    def judge(self, jobs: Sequence[Job], progress: Callable[[Verdict], None] | None = None) -> list[Verdict]:
        """Judge the new texts of files, each by the tests of the item that `task_id` names.

        Args:
            progress: called with each verdict as it comes.

        Returns:
            A verdict for each, in their order; `unjudged` where two workers broke on it.
        """
        verdicts: dict[int, Verdict] = {}
        level = self.isolation.level

        def run(start: Callable[[Run], Ran], place: int) -> Verdict:
            job = jobs[place]
            item = self.items[job.task_id]
            seconds = cpu_limit(item.reference_seconds, self.max_seconds)
            asked = judging_run(item.path, job.program, item.tests, limits(seconds, 5 * self.max_seconds))
            found = outcome(start(asked), asked)
            return Verdict(job.id, found.kind, found.detail, found.seconds, found.cpu_seconds, level, JUDGE)

        def give_up(place: int, reason: str) -> Verdict:
            return Verdict(jobs[place].id, "unjudged", f"the judge broke: {reason}", 0.0, 0.0, level, JUDGE)

        for place, verdict in self.runner.map(run, range(len(jobs)), give_up):
            verdicts[place] = verdict
            if progress:
                progress(verdict)
        return [verdicts[place] for place in range(len(jobs))]
