"""One checkpoint written by all ranks together, beside the training: each its part, and rank 0 makes it a checkpoint.

The ranks tell each other through the board, not by collectives, so this may run in a thread. What the disk or the
network refuse is tried again; a checkpoint that cannot be written is given up, and training goes on.
"""

import errno
import itertools
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from codelm.errors import EnvironmentFailure
from codelm.files import sync_to_disk
from codelm.train.board import Board
from codelm.train.checkpoints.folder import STATE_FOLDER, publish, remove, temporary
from codelm.train.checkpoints.hashes import Fingerprint, write_hashes
from codelm.train.checkpoints.training_state import TrainingState

log = logging.getLogger(__name__)

WAITS = (2.0, 8.0)
"""Seconds before the second attempt and before the third."""
_BUG = "!"
_ROOM_MADE = "+"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_DISK_FULL = "the disk is full"


@dataclass(frozen=True)
class Snapshot:
    """One rank's part of a checkpoint to be."""

    target: Path
    """The folder's final name."""
    training: TrainingState
    write_rest: Callable[[Path], None] | None
    """On rank 0: writes everything else into a folder that is not there yet."""


class NotSaved(Exception):
    """A checkpoint was given up; its text says why."""


def write_together(
    snapshot: Snapshot, board: Board, serial: int, make_room: Callable[[Path], bool], waits: tuple[float, ...] = WAITS
) -> None:
    """Write and publish a checkpoint; every rank calls, with the same serial number.

    Args:
        snapshot: this rank's part.
        board: where the ranks tell each other.
        serial: of this checkpoint.
        make_room: called on rank 0 when the disk is full: whether something was removed, so that it is tried at once.
        waits: seconds before each further attempt.

    Raises:
        NotSaved: on every rank, after the last attempt.
        RuntimeError: on every rank, after an error that is not the machine's.
    """
    left = [*waits]
    for attempt in itertools.count():
        problem = _attempt(snapshot, board, f"{serial}/{attempt}", make_room)
        if not problem:
            return
        if problem.startswith(_ROOM_MADE):
            continue
        if problem.startswith(_BUG):
            raise RuntimeError(problem.removeprefix(_BUG))
        if not left:
            raise NotSaved(problem)
        wait = left.pop(0)
        if board.rank == 0:
            log.warning("%s could not be saved (%s); trying again in %g s", snapshot.target, problem, wait)
        time.sleep(wait)


def _attempt(snapshot: Snapshot, board: Board, name: str, make_room: Callable[[Path], bool]) -> str:
    """One attempt of all ranks; what went wrong, the same on every rank, or an empty text."""
    # The name differs from that of any other process's attempt, which may not be dead yet.
    mark = board.put_first(f"{name}/mark", f"{os.getpid()}-{name.replace('/', '-')}")
    folder = temporary(snapshot.target, mark)
    states = folder.with_name(f"{folder.name}-{STATE_FOLDER}")
    report = _write_own(snapshot, board, folder, states)
    board.put(f"{name}/{board.rank}", json.dumps(report))
    if board.rank == 0:
        problem = _finish(snapshot, board, name, folder, states)
        if problem.startswith(_DISK_FULL) and _has_made_room(make_room, snapshot.target):
            problem = _ROOM_MADE
        board.put(f"{name}/verdict", problem)
    return board.wait(f"{name}/verdict") or ""


def _write_own(snapshot: Snapshot, board: Board, folder: Path, states: Path) -> dict[str, object]:
    try:
        states.mkdir(exist_ok=True)
        files = snapshot.training.write(states, board.rank, board.world_size)
        if snapshot.write_rest is not None:
            snapshot.write_rest(folder)
        # Another machine's files are on the disk only when that machine says so.
        for path in [*(states / file for file in files), states]:
            sync_to_disk(path)
    except (OSError, EnvironmentFailure) as error:
        return {"problem": brief(error)}
    except Exception as error:
        # Also what nobody foresaw must reach the other ranks, which wait for this one.
        log.exception("rank %d cannot save %s", board.rank, snapshot.target)
        return {"problem": f"{_BUG}{type(error).__name__}: {error}"}
    return {"files": {f"{STATE_FOLDER}/{file}": what for file, what in files.items()}}


def _finish(snapshot: Snapshot, board: Board, name: str, folder: Path, states: Path) -> str:
    """Rank 0: make a checkpoint of what all ranks wrote; an empty text when it is one."""
    known: dict[str, Fingerprint] = {}
    try:
        for rank in range(board.world_size):
            report = json.loads(board.wait(f"{name}/{rank}") or "")
            if "problem" in report:
                where = f" (rank {rank})" if board.world_size > 1 else ""
                return _undo(folder, states, report["problem"] + where)
            known |= {path: Fingerprint(*what) for path, what in report["files"].items()}
        states.rename(folder / STATE_FOLDER)
        write_hashes(folder, known)
        publish(folder, snapshot.target)
    except OSError as error:
        return _undo(folder, states, brief(error))
    except Exception as error:
        log.exception("%s cannot be saved", snapshot.target)
        return f"{_BUG}{type(error).__name__}: {error}"
    return ""


def _has_made_room(make_room: Callable[[Path], bool], target: Path) -> bool:
    try:
        return make_room(target)
    except OSError as error:
        log.warning("nothing could be removed to make room for %s: %s", target, error)
        return False


def _undo(folder: Path, states: Path, problem: str) -> str:
    remove(folder)
    remove(states)
    return problem


def brief(error: Exception) -> str:
    """What the machine refused, in a few words."""
    if isinstance(error, OSError):
        if error.errno in _FULL:
            return _DISK_FULL
        return f"{error.strerror}: {error.filename}" if error.strerror and error.filename else str(error)
    # What safetensors writes is not Python's error.
    if any(f"(os error {number})" in str(error) for number in _FULL):
        return _DISK_FULL
    return str(error).split(";")[0]
