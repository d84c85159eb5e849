"""What an evaluation asks of a judge, whatever it runs programs in.

A benchmark says which judge is its own (`codelm.eval.problem.Benchmark.open_judge`); `pool.JudgePool` runs programs of
Python that stand alone.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, Self

from codelm.eval.judge.verdict import Job, Verdict
from codelm.eval.sandbox.confine import Isolation, Limits


class Judge(Protocol):
    """Gives verdicts; a context manager, which ends what it has started."""

    isolation: Isolation
    """What confines programs here."""
    limits: Limits
    """The most that a program may take; verdicts under the same limits serve again."""

    def judge(self, jobs: Sequence[Job], progress: Callable[[Verdict], None] | None = None) -> list[Verdict]:
        """Judge all jobs.

        Args:
            progress: called with each verdict as it comes.

        Returns:
            A verdict for each job, in the order of the jobs; `unjudged` where the judge itself broke.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...
