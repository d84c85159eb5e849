"""Where every thread of every rank stands: what one wants to see of a run that hangs."""

import faulthandler
import tempfile
import time
from collections.abc import Callable

from codelm.train.board import Board
from codelm.train.lifeline.peers import Peer

_PATIENCE = 10.0
"""Seconds in which a rank must answer."""


def own_stacks() -> str:
    """The stacks of all threads of this process that run Python."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        threads = file.read().split("\n\n")
    return "\n\n".join(thread for thread in threads if "<no Python frame>" not in thread)


def gather_stacks(board: Board, peers: list[Peer], batch: int, silent_for: float) -> str | None:
    """Rank 0 gets all ranks' stacks as a text, the others None; no rank waits long for one that does not answer."""
    mine = f"last batch finished {batch}, nothing for {silent_for:.0f} s\n{own_stacks()}"
    board.put(f"stacks/{board.rank}", mine)
    if board.rank != 0:
        # The board is rank 0's: it must not go before the text is read.
        board.wait("stacks/read", _until(time.monotonic() + 2 * _PATIENCE))
        return None
    give_up = _until(time.monotonic() + _PATIENCE)
    texts = []
    for peer in peers:
        text = board.wait(f"stacks/{peer.rank}", give_up) or "it does not answer: stopped, or gone\n"
        texts.append(f"----- rank {peer.rank} of {len(peers)} on {peer.host} (process {peer.pid}): {text}")
    board.put("stacks/read", "yes")
    return "\n".join(texts)


def _until(deadline: float) -> Callable[[], bool]:
    return lambda: time.monotonic() > deadline
