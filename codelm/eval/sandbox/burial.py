"""Ends a program with all that it has left running: as its user, and as orphans of the calling process.

The caller must be a subreaper (`PR_SET_CHILD_SUBREAPER`) with no other children: it waits for every one.
"""

import contextlib
import os
import signal
import sys
import time
from typing import Any

_BURIAL_SECONDS = 5.0


def is_dead(child: int) -> bool:
    """Whether a child has ended; it is left to be waited for."""
    return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def bury(child: int, user: int | None, patience: float = 0.0) -> dict[str, Any]:
    """Kill what is left of a program: a child that leads a session, and all that came of it.

    Args:
        user: the fresh user that it alone ran as, if it did.
        patience: seconds in which the child may end of itself.

    Returns:
        status (as of `waitpid`), alone (whether it ended before we killed it), cpu_seconds, max_rss (bytes),
        survivors (processes it had left behind, now dead) and clean (whether all of them are).
    """
    deadline = time.monotonic() + patience
    while not (alone := is_dead(child)) and time.monotonic() < deadline:
        time.sleep(0.001)
    if not alone:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    survivors, clean = _bury_descendants(user)
    return {
        "status": status,
        "alone": alone,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "max_rss": usage.ru_maxrss * (1024 if sys.platform == "linux" else 1),
        "survivors": survivors,
        "clean": clean,
    }


def _bury_descendants(user: int | None) -> tuple[int, bool]:
    """Orphans of the program are now ours (we are their subreaper): kill until none is left."""
    survivors = 0
    deadline = time.monotonic() + _BURIAL_SECONDS
    while time.monotonic() < deadline:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return survivors, True
        if pid:
            survivors += 1
            continue
        if user is not None:
            _kill_user(user)
        for orphan in descendants(os.getpid()):
            with contextlib.suppress(OSError):
                os.kill(orphan, signal.SIGKILL)
        time.sleep(0.001)
    return survivors, False


def _kill_user(user: int) -> None:
    killer = os.fork()
    if killer == 0:
        try:
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(killer, 0)


def descendants(pid: int) -> list[int]:
    """All processes below one, in no order that matters."""
    found = []
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return found
    for task in tasks:
        try:
            with open(f"/proc/{pid}/task/{task}/children") as children:
                own = [int(child) for child in children.read().split()]
        except OSError:
            continue
        for child in own:
            found += [child, *descendants(child)]
    return found
