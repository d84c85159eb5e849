"""A judge that runs nothing: says of completed files whether they parse, and of others that they are only compared.

They are parsed in a process of their own, within the bounds of a program: a parser of anyone's text may never end.
"""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.judge.pool import limits_of
from codelm.eval.judge.verdict import COMPARED, PARSER, Job, Verdict
from codelm.eval.sandbox.confine import Isolation, Limits

_ISOLATION = Isolation("nothing is run", False, 0, False)
_START_SECONDS = 120.0
_PARSES, _BROKEN = ("passed", "the file parses"), ("failed", "the file does not parse")
_KINDS = {
    "cpu": "its parser took more CPU time than a program may",
    "wall": "its parser took longer than a program may",
    "memory": "its parser took more memory than a program may",
    "crashed": "its parser crashed",
}


class _Ended(Exception):
    """The process gave no answer: what it took too much of."""


class ParseJudge:
    """Judges jobs whose `judge` is `parser` by the parser of the language that `test` names; see `Judge`."""

    def __init__(self, settings: SandboxSection):
        self.isolation = _ISOLATION
        self.limits = limits_of(settings)
        self._worker: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def judge(self, jobs: Sequence[Job], progress: Callable[[Verdict], None] | None = None) -> list[Verdict]:
        """A verdict for each job, in their order."""
        verdicts = []
        for job in jobs:
            kind, detail, start = COMPARED, "nothing but its text is compared", time.monotonic()
            if job.judge == PARSER:
                kind, detail = self._parse(job)
            seconds = time.monotonic() - start
            verdicts.append(Verdict(job.id, kind, detail, seconds, 0.0, self.isolation.level, job.judge))
            if progress:
                progress(verdicts[-1])
        return verdicts

    def _parse(self, job: Job) -> tuple[str, str]:
        """Kind and detail of a verdict."""
        self._worker = self._worker or _Worker(self.limits)
        try:
            answer = self._worker.ask(job.test, job.program)
        except _Ended as end:
            self._close()
            answer = str(end)
        if answer in _KINDS:
            return answer, _KINDS[answer]
        return _PARSES if answer else _BROKEN

    def _close(self) -> None:
        if self._worker is not None:
            self._worker.close()
            self._worker = None


class _Worker:
    def __init__(self, limits: Limits):
        self.wall_seconds = limits.wall_seconds
        self.pending = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "codelm.eval.parse_worker", json.dumps([limits.cpu_seconds, limits.memory_bytes])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def ask(self, language: str, text: str) -> Any:
        """Whether a text parses, or what parsing it took too much of.

        Raises:
            _Ended: the process is of no more use.
        """
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # its death is noticed on the way back
            self.process.stdin.write(json.dumps([language, text]).encode() + b"\n")
            self.process.stdin.flush()
        self._hear(_START_SECONDS)
        return self._hear(self.wall_seconds)

    def _hear(self, seconds: float) -> Any:
        assert self.process.stdout is not None
        end = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while b"\n" not in self.pending:
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise _Ended("wall")
                chunk = os.read(self.process.stdout.fileno(), 1 << 12)
                if not chunk:
                    raise _Ended("cpu" if self.process.wait() == -signal.SIGXCPU else "crashed")
                self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def close(self) -> None:
        """End it, whatever it is doing."""
        self.process.kill()
        self.process.communicate()
