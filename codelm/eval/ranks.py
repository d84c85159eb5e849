"""The processes that share an evaluation. Each has its own part of the work, and files of its own to put it in."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


def _alone() -> None:
    pass


@dataclass(frozen=True)
class Ranks:
    """Which of them this one is.

    Attributes:
        barrier: returns when all have called it.
    """

    rank: int = 0
    size: int = 1
    barrier: Callable[[], None] = _alone

    @property
    def first(self) -> bool:
        """Whether this one does what is done once: settings, judging, scores."""
        return self.rank == 0

    def share(self, work: Sequence[T]) -> list[T]:
        """This one's part: dealt out like cards, so that long and short ones spread."""
        return list(work[self.rank :: self.size])
