"""One run at a time writes to a save_folder."""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from codelm.errors import EnvironmentFailure

LOCK_FILE = ".lock"
_NAP = 0.2
PATIENCE = 5.0
"""Seconds for a run that is just ending to end."""


@contextmanager
def only_run_in(save_folder: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Hold a folder for this process; the lock goes with the process, however it ends.

    Raises:
        EnvironmentFailure: another process holds it.
    """
    # A record lock, unlike flock's, is not inherited by the loaders' worker processes, which may outlive a kill by
    # seconds; and it works on network file systems.
    descriptor = os.open(save_folder / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + patience
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
                raise EnvironmentFailure(
                    f"{save_folder} is in use by another run ({holder or 'unknown'}); wait for its end, or choose"
                    " another save_folder"
                )
            time.sleep(_NAP)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        # A file system without locks: nothing can be known of others there.
        return True
    return True
