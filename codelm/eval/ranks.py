"""The processes that share an evaluation. Each has its own part of the work, and files of its own to put it in."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from codelm.errors import EvaluationError

T = TypeVar("T")


def _alone(failure: str | None) -> str | None:
    return failure


@dataclass(frozen=True)
class Ranks:
    """Which of them this one is.

    Attributes:
        agree: returns when all have called it, with what failed on one of them, if anything did.
    """

    rank: int = 0
    size: int = 1
    agree: Callable[[str | None], str | None] = _alone

    @property
    def first(self) -> bool:
        """Whether this one does what is done once: settings, judging, scores."""
        return self.rank == 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A part of the work that all have behind them before one goes on, so that none waits for one that failed.

        Raises:
            EvaluationError: it failed on another one; what fails on this one is raised as it is.
        """
        try:
            yield
        except Exception as error:
            self.agree(str(error) or type(error).__name__)
            raise
        if failure := self.agree(None):
            raise EvaluationError(failure)

    def share(self, work: Sequence[T]) -> list[T]:
        """This one's part: dealt out like cards, so that long and short ones spread."""
        return list(work[self.rank :: self.size])
