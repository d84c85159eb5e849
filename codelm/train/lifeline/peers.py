"""Who the ranks of a run are, and which of those on this machine are gone."""

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from composer.utils import dist

from codelm.train.board import Board


@dataclass(frozen=True)
class Peer:
    """A rank and its process."""

    rank: int
    host: str
    node: int
    pid: int

    def shares_launcher_with(self, other: "Peer") -> bool:
        """Whether both were started on one machine, so that one launcher gathers their exit codes."""
        return (self.host, self.node) == (other.host, other.node)

    def is_gone(self) -> bool:
        """Whether the process, one of this machine, has ended."""
        try:
            status = Path(f"/proc/{self.pid}/stat").read_text()
        except OSError:
            return True
        # The name before it may hold anything, brackets too. Z: ended, and the launcher has not looked yet.
        return status.rpartition(")")[2].split()[0] in "ZX"


def this_process() -> Peer:
    """The rank that asks."""
    return Peer(dist.get_global_rank(), socket.gethostname(), dist.get_node_rank(), os.getpid())


def introduce(board: Board) -> list[Peer]:
    """All ranks by number; every rank must call."""
    board.put(f"peer/{board.rank}", json.dumps(asdict(this_process())))
    return [Peer(**json.loads(board.wait(f"peer/{rank}") or "")) for rank in range(board.world_size)]
