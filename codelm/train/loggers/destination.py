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
        """Send what is left."""
        ...


class RunInfo(NamedTuple):
    """What a place is told of a run when it is opened."""

    name: str
    config: dict[str, Any]


Opener = Callable[[RunInfo], Destination]
