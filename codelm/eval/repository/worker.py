"""One worker as we see it: a warm interpreter of the repository's environment that is given runs of pytest."""

import contextlib
import json
import os
import secrets
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from codelm.eval.repository.environment import Environment
from codelm.eval.sandbox.confine import Isolation, Limits

_SERVER = Path(__file__).parent / "guest" / "server.py"
_START_SECONDS = 600.0
_GRACE_SECONDS = 30.0

Event = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One run of pytest in a copy of the repository.

    Attributes:
        ids: the tests to run, in this order; None means all that `targets` hold.
        targets: paths or ids to collect from; by default those of `ids`.
        files: new texts of files, by path: what is judged.
        silence_seconds: a test may take so long.
        first_failure_ends: what comes behind the first failed test is not run.
    """

    ids: tuple[str, ...] | None
    limits: Limits
    targets: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    silence_seconds: float = 60.0
    collect_only: bool = False
    trace: bool = False
    reverse: bool = False
    first_failure_ends: bool = False


@dataclass
class Ran:
    """What came of a run.

    Attributes:
        events: what the run's process told, in order (see `guest.session`).
        finished: its nonce came back, so the events are complete; the tests ran in the same process as the code.
        end: how the process ended (see `sandbox.burial.bury`), and `stopped`, `changed`, `seconds`, `printed`.
    """

    events: list[Event]
    finished: bool
    end: dict[str, Any]

    def outcomes(self) -> dict[str, str]:
        """The outcome of every test that ended: passed, failed, skipped, never-ran."""
        return {event["end"]: event["outcome"] for event in self.events if "end" in event}

    def last_started(self) -> str | None:
        """The test during which the process ended, if it was one."""
        running = None
        for event in self.events:
            if "start" in event:
                running = event["start"]
            elif "end" in event:
                running = None
        return running


@dataclass(frozen=True)
class Setup:
    """What workers need to know: the repository's copy, its interpreter, and what to import once for all runs."""

    environment: Environment
    pristine: Path
    origin: str
    roots: tuple[str, ...]
    own: frozenset[str]
    addopts: str = ""
    preload: tuple[str, ...] = ()
    hash_seed: int = 0


class Worker:
    """A warm interpreter with a copy of the repository of its own."""

    def __init__(self, setup: Setup):
        self.setup = setup
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the process)
        environment = {
            "PATH": os.pathsep.join([os.path.dirname(setup.environment.python), os.defpath, "/usr/local/bin"]),
            "LANG": "C.UTF-8",
            "PYTHONHASHSEED": str(setup.hash_seed),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONNOUSERSITE": "1",
            "HOME": "/nonexistent",
            "MPLBACKEND": "Agg",
            # One thread: a worker is one of many, and a process with threads cannot be forked.
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
            **{name: value for name, value in os.environ.items() if name == "TMPDIR"},
        }
        self.process = subprocess.Popen(
            [setup.environment.python, "-X", "utf8", str(_SERVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self.pending = b""
        self.home: str | None = None
        try:
            self._say(
                {
                    "pristine": str(setup.pristine),
                    "roots": setup.roots,
                    "own": sorted(setup.own),
                    "preload": setup.preload,
                    "prefixes": setup.environment.prefixes,
                    "readable": setup.environment.readable(setup.origin, set(setup.own)),
                }
            )
            hello = self._hear(time.monotonic() + _START_SECONDS)
        except BaseException:
            self.close(in_a_hurry=True)
            raise
        self.safe = "unsafe" not in hello
        if self.safe:
            self.home = hello["home"]
            self.isolation = Isolation.from_dict(hello["isolation"])

    def _say(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # its death is noticed on the way back
            self.stdin.write(json.dumps(message).encode() + b"\n")
            self.stdin.flush()

    def _hear(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self.pending:
            with selectors.DefaultSelector() as selector:
                selector.register(self.stdout, selectors.EVENT_READ)
                ready = selector.select(timeout=max(0.0, deadline - time.monotonic()))
            chunk = self.stdout.read(1 << 20) if ready else b""
            if not chunk:
                raise ChildProcessError(self.last_words() if ready else "it went silent")
            self.pending += chunk
        line, _, self.pending = self.pending.partition(b"\n")
        return json.loads(line)

    def run(self, run: Run, tell: Callable[[Event], None] | None = None) -> Ran:
        """Run pytest.

        Args:
            tell: called with each event as it comes.

        Raises:
            ChildProcessError: the worker itself broke.
        """
        nonce = secrets.token_hex(16)
        targets = run.targets or tuple(dict.fromkeys(id.partition("[")[0] for id in run.ids or ()))
        order = {
            "targets": targets,
            "ids": run.ids,
            "addopts": self.setup.addopts,
            "collect_only": run.collect_only,
            "trace": run.trace,
            "reverse": run.reverse,
            "first_failure_ends": run.first_failure_ends,
            "nonce": nonce,
        }
        limits = run.limits.to_dict()
        self._say({"files": run.files, "limits": limits, "silence_seconds": run.silence_seconds, "order": order})
        deadline = time.monotonic() + run.limits.wall_seconds + _GRACE_SECONDS
        events: list[Event] = []
        finished = False
        while True:
            message = self._hear(deadline)
            if "end" in message:
                return Ran(events, finished, message["end"])
            event = _event(message.get("child", ""))
            if event is not None:
                finished = finished or event.get("finished") == nonce
                events.append(event)
                if tell:
                    tell(event)

    def last_words(self) -> str:
        """Why it ended, as far as it said."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit status {self.process.poll()}"

    def close(self, in_a_hurry: bool = False) -> None:
        """End it, and remove its folders."""
        if in_a_hurry:
            self.process.terminate()
        with contextlib.suppress(OSError):
            self.stdin.close()
        try:
            self.process.wait(timeout=_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.stdout.close()
        self.errors.close()
        if self.home is not None:
            shutil.rmtree(self.home, ignore_errors=True)


def _event(line: str) -> Event | None:
    """A run's process says what it likes: only objects are events."""
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None
