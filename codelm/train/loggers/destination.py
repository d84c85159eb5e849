"""What a place for metrics must be able to do."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol


class Table(NamedTuple):
    """Texts in columns."""

    columns: list[str]
    rows: list[list[Any]]


class Row(NamedTuple):
    """Metrics of a moment; of an earlier one than the row before it, where they come late."""

    batch: int
    seconds: float
    """Since the epoch, when they were logged."""
    metrics: Mapping[str, float]
    tables: Mapping[str, Table] = MappingProxyType({})


class Destination(Protocol):
    """An open place; each method may raise whatever it likes."""

    def write(self, rows: list[Row]) -> None:
        """Take metrics, in the order in which they were logged."""
        ...

    def close(self) -> None:
        """Send what is left.

        Raises:
            Unsent: when that took too long.
        """
        ...


class Unsent(Exception):
    """What was written is kept but not all of it sent; the text says how to send it later."""


class RunInfo(NamedTuple):
    """What a place is told of a run when it is opened."""

    name: str
    config: dict[str, Any]


Opener = Callable[[RunInfo], Destination]


class Rescue(NamedTuple):
    """What to do about a place that failed or hangs."""

    end: Callable[[], None]
    """End what the place runs beside this process: what waits for it raises, and the process's exit waits for nothing.
    Called from any thread, at any time, also when there is nothing to end."""
    keep: Callable[[RunInfo, list[Row]], str]
    """Put rows where they can be sent from later, and say how."""
