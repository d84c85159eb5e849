"""Short notes that every rank can read: what ranks tell each other where collectives would wait for the dead.

The notes are in the store through which torch's ranks find each other; rank 0 keeps it. No note waits for another rank,
and reading one costs a tenth of a millisecond, so threads may use it beside the training's own collectives.
"""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.distributed as torch_dist
from composer.utils import dist
from torch.distributed import distributed_c10d

_LONGEST_NAP = 0.1
# One board for each run of a process: the same number on every rank, which all begin their runs together.
_serial = itertools.count()


@dataclass(frozen=True)
class Board:
    """The notes of one run."""

    store: Any
    rank: int
    world_size: int

    def part(self, name: str) -> "Board":
        """A corner of the board with names of its own, over a connection of its own."""
        return Board(torch_dist.PrefixStore(name, _own_connection(self.store)), self.rank, self.world_size)

    def put(self, name: str, text: str) -> None:
        """Write a note."""
        self.store.set(name, text)

    def put_first(self, name: str, text: str) -> str:
        """Write a note unless it is there already; return what it says now."""
        # An empty text stands for an absent note.
        return self.store.compare_set(name, "", text).decode()

    def read(self, name: str) -> str | None:
        """A note, or None."""
        return self.store.get(name).decode() if self.store.check([name]) else None

    def count(self, name: str, more: int = 0) -> int:
        """Add to a number that begins at 0, and return it."""
        return self.store.add(name, more)

    def wait(self, name: str, give_up: Callable[[], bool] = lambda: False) -> str | None:
        """A note, as soon as it is there; None when `give_up` says so first."""
        nap = 0.001
        while (text := self.read(name)) is None:
            if give_up():
                return None
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP)
        return text


def new_board() -> Board:
    """The board of a run that begins; every rank must call, after torch.distributed is initialised."""
    name = f"codelm/{next(_serial)}"
    world_size = dist.get_world_size()
    store = torch_dist.HashStore() if world_size == 1 else _own_connection(distributed_c10d._get_default_store())
    return Board(torch_dist.PrefixStore(name, store), dist.get_global_rank(), world_size)


def _own_connection(store: Any) -> Any:
    """A store answers one call at a time on each connection; torch 2.7 has no second one to offer."""
    return store.clone() if hasattr(store, "clone") else store
