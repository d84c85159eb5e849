"""Watches a confined process and all that came of it, until it ends, has said its nonce, or takes more than it may."""

import os
import re
import select
import time
from dataclasses import dataclass

from codelm.eval.sandbox.burial import is_dead
from codelm.eval.sandbox.confine import Limits
from codelm.eval.sandbox.usage import bytes_below, processes_below

_KEPT = 16_000
_TICK, _LOOK_SECONDS = 0.05, 0.1
_LINE = 300
_TROUBLE = re.compile(r"error|exception|assert|panicked|failed", re.IGNORECASE)


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Attributes:
        stopped: what it took too much of: wall, cpu, memory, output; None where it ended, or had finished.
        finished: it said the nonce.
        output: the end of what it printed.
        cpu_seconds: of it and all that it started, as far as that was seen.
        status: as of `waitpid`; None where it had to be killed.
    """

    stopped: str | None
    finished: bool
    output: bytes
    cpu_seconds: float
    status: int | None = None

    def words(self) -> str:
        """The first line of what it printed that speaks of an error, else the last of all; shortened."""
        lines = [line.strip() for line in self.output.decode(errors="replace").splitlines() if line.strip()]
        return next(filter(_TROUBLE.search, lines), lines[-1] if lines else "")[:_LINE]


def watch(child: int, output: int, limits: Limits, folder: str, nonce: bytes | None) -> Ended:
    """Wait for a process; it is left to be buried.

    Args:
        output: what it prints, stdout and stderr together; drained without end, counted, and only its end kept.
        nonce: with it the process has finished, whatever it still does.
    """
    started = looked = time.monotonic()
    kept, printed, cpu_seconds, finished, stopped = b"", 0, 0.0, False, None
    open_output = True
    while stopped is None:
        ready = select.select([output] if open_output else [], [], [], _TICK)[0]
        if ready:
            chunk = os.read(output, 1 << 16)
            open_output = bool(chunk)
            printed += len(chunk)
            kept = (kept + chunk)[-_KEPT - len(chunk) :]
            finished = finished or (nonce is not None and nonce in kept)
            kept = kept[-_KEPT:]
            if printed > limits.output_bytes:
                stopped = "output"
            if finished:
                break
        now = time.monotonic()
        if now - started > limits.wall_seconds:
            stopped = "wall"
        elif now - looked > _LOOK_SECONDS:
            looked = now
            cpu, memory = processes_below(os.getpid(), limits.memory_bytes)
            cpu_seconds = max(cpu_seconds, cpu)
            if cpu_seconds > limits.cpu_seconds:
                stopped = "cpu"
            elif memory > limits.memory_bytes:
                stopped = "memory"
            elif bytes_below(folder, limits.disk_bytes) > limits.disk_bytes:
                stopped = "output"
        if not ready and is_dead(child):
            break
    cpu_seconds = max(cpu_seconds, processes_below(os.getpid(), limits.memory_bytes)[0])
    return Ended(None if finished else stopped, finished, kept, cpu_seconds)
