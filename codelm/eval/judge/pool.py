"""The caller's side of the judge: starts workers, hands out jobs, collects verdicts, replaces a broken worker."""

import contextlib
import json
import logging
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.errors import EnvironmentFailure, EvaluationError
from codelm.eval.judge.verdict import Job, Verdict
from codelm.eval.sandbox.confine import LEVELS, Isolation, Limits

_log = logging.getLogger(__name__)
_WORKER = Path(__file__).with_name("worker.py")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
_GRACE_SECONDS = 20.0
_START_SECONDS = 60.0
_CLOSE_SECONDS = 10.0
_ATTEMPTS = 2


@dataclass(frozen=True)
class Script:
    """What a worker process runs.

    Attributes:
        settings: told to it beside the limits.
        spare_seconds: it may take longer than a job's wall time by so much.
    """

    path: Path = _WORKER
    settings: dict[str, Any] = field(default_factory=dict)
    spare_seconds: float = 0.0


_PYTHON = Script()


@dataclass
class _Task:
    index: int
    job: Job
    failures: int = 0


class _WorkerProcess:
    def __init__(self, limits: Limits, script: Script):
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        self.process = subprocess.Popen(
            # -S and a clean environment: only the standard library, nothing of ours to read, the same hashes each time.
            [sys.executable, "-S", "-s", "-P", "-X", "utf8", str(script.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={
                **_ENVIRONMENT,
                **{name: value for name, value in os.environ.items() if name == "TMPDIR"},
            },
            cwd="/",
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self.pending = b""
        self.task: _Task | None = None
        self.deadline = time.monotonic() + _START_SECONDS
        self.home: str | None = None
        self.limits = limits
        self.spare_seconds = script.spare_seconds + _GRACE_SECONDS
        self.say({"limits": limits.to_dict(), **script.settings})

    def say(self, message: dict[str, Any]) -> None:
        try:
            self.stdin.write(json.dumps(message).encode() + b"\n")
            self.stdin.flush()
        except OSError:
            pass  # its death is noticed on the way back

    def assign(self, task: _Task) -> None:
        self.task = task
        self.deadline = time.monotonic() + self.limits.wall_seconds * task.job.patience + self.spare_seconds
        self.say(task.job.to_dict())

    def hear(self) -> tuple[dict[str, Any] | None, bool]:
        """A message, if a whole one has come, and whether the worker is still there."""
        alive = True
        while b"\n" not in self.pending:
            chunk = self.stdout.read(1 << 16)
            if chunk is None:
                break
            if not chunk:
                alive = False
                break
            self.pending += chunk
        line, found, rest = self.pending.partition(b"\n")
        if not found:
            return None, alive
        self.pending = rest
        try:
            return json.loads(line), alive
        except ValueError:
            return None, False

    def last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.process.poll()}"

    def close(self, in_a_hurry: bool = False) -> None:
        if in_a_hurry:
            self.process.terminate()
        with contextlib.suppress(OSError):
            self.stdin.close()
        try:
            self.process.wait(timeout=_CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stdout.close()
        self.errors.close()
        if self.home is not None and self.process.returncode:
            shutil.rmtree(self.home, ignore_errors=True)


def limits_of(settings: SandboxSection) -> Limits:
    """The bounds of one program that the `sandbox:` section asks for."""
    return Limits(
        wall_seconds=settings.wall_seconds,
        cpu_seconds=settings.cpu_seconds,
        memory_bytes=settings.memory_bytes,
        output_bytes=settings.output_bytes,
    )


class JudgePool:
    """Worker processes that judge; a context manager.

    Args:
        script: what they run; programs of Python are judged by default.

    Raises:
        EvaluationError: when this machine isolates less than `settings.min_level`.
        EnvironmentFailure: when no worker can be started.
    """

    def __init__(self, settings: SandboxSection, script: Script = _PYTHON):
        self.limits = limits_of(settings)
        self._script = script
        self._workers: list[_WorkerProcess] = []
        count = settings.num_workers or available_cores()
        try:
            self._workers = [_WorkerProcess(self.limits, script) for _ in range(count)]
            self.isolation = self._greet(settings.min_level)
        except BaseException:
            self.close()
            raise

    def _greet(self, min_level: str) -> Isolation:
        isolations = [_await_hello(worker) for worker in self._workers]
        isolation = min(isolations, key=lambda isolation: LEVELS.index(isolation.level))
        if LEVELS.index(isolation.level) < LEVELS.index(min_level):
            notes = "; ".join(isolation.notes)
            raise EvaluationError(
                f"this machine isolates programs at level `{isolation.level}` ({notes}), sandbox.min_level asks for"
                f" `{min_level}`: lower it only if you trust the model, or run where Landlock and seccomp work"
            )
        return isolation

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers and everything below them, whatever they are doing."""
        for worker in self._workers:
            worker.close(in_a_hurry=worker.task is not None)
        self._workers = []

    def judge(self, jobs: Sequence[Job], progress: Callable[[Verdict], None] | None = None) -> list[Verdict]:
        """Judge all jobs.

        Args:
            progress: called with each verdict as it comes.

        Returns:
            A verdict for each job, in the order of the jobs. When `progress` raises, the pool is closed.
        """
        try:
            return self._judge(jobs, progress)
        except BaseException:
            self.close()
            raise

    def _judge(self, jobs: Sequence[Job], progress: Callable[[Verdict], None] | None) -> list[Verdict]:
        queue = deque(_Task(index, job) for index, job in enumerate(jobs))
        verdicts: dict[int, Verdict] = {}

        def settle(task: _Task, verdict: Verdict) -> None:
            verdicts[task.index] = verdict
            if progress:
                progress(verdict)

        while len(verdicts) < len(jobs):
            for worker in self._workers:
                if worker.task is None and queue:
                    worker.assign(queue.popleft())
            for index in self._ready():
                worker = self._workers[index]
                task = worker.task
                message, alive = worker.hear()
                if task is None:
                    continue
                if message is not None:
                    worker.task = None
                    settle(task, Verdict(id=task.job.id, **message))
                elif not alive or time.monotonic() > worker.deadline:
                    reason = worker.last_words() if not alive else "it went silent"
                    _log.warning("a worker of the judge broke on %s: %s", task.job.id, reason)
                    worker.close(in_a_hurry=True)
                    self._workers[index] = _WorkerProcess(self.limits, self._script)
                    _await_hello(self._workers[index])
                    task.failures += 1
                    if task.failures < _ATTEMPTS:
                        queue.append(task)
                    else:
                        level = self.isolation.level
                        broke = Verdict(
                            task.job.id, "unjudged", f"the judge broke: {reason}", 0.0, 0.0, level, task.job.judge
                        )
                        settle(task, broke)
        return [verdicts[index] for index in range(len(jobs))]

    def _ready(self) -> list[int]:
        busy = [(index, worker) for index, worker in enumerate(self._workers) if worker.task is not None]
        with selectors.DefaultSelector() as selector:
            for index, worker in busy:
                selector.register(worker.stdout, selectors.EVENT_READ, index)
            ready = {key.data for key, _ in selector.select(timeout=1.0)}
        now = time.monotonic()
        return [index for index, worker in busy if index in ready or now > worker.deadline]


def _await_hello(worker: _WorkerProcess) -> Isolation:
    while True:
        message, alive = worker.hear()
        if message is not None:
            worker.home = message["home"]
            return Isolation.from_dict(message["isolation"])
        if not alive or time.monotonic() > worker.deadline:
            worker.process.wait(timeout=5) if not alive else worker.process.kill()
            raise EnvironmentFailure(f"the judge's worker process did not start: {worker.last_words()}")
        with selectors.DefaultSelector() as selector:
            selector.register(worker.stdout, selectors.EVENT_READ)
            selector.select(timeout=1.0)


def available_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def judge(
    jobs: Sequence[Job], settings: SandboxSection, progress: Callable[[Verdict], None] | None = None
) -> list[Verdict]:
    """Judge all jobs with a pool of their own: see `JudgePool`."""
    if not jobs:
        return []
    fewer = min(settings.num_workers or available_cores(), len(jobs))
    with JudgePool(settings.model_copy(update={"num_workers": fewer})) as pool:
        return pool.judge(jobs, progress)
