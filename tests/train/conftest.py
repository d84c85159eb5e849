"""Launches of several ranks through Composer's launcher, kept warm: see forked.py."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Ended:
    """How a launch ended."""

    code: int
    output: str
    seconds: float
    """From the fault's strike to the end of the launcher."""

    @property
    def last_words(self) -> str:
        """The last lines that a user sees."""
        return "\n".join(self.output.strip().splitlines()[-4:])


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


class Launcher:
    """Composer's launcher, kept warm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forked.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )

    def begin(self, settings: dict[str, Any], fault: dict[str, Any] | None = None, ranks: int = 2) -> None:
        """Start ranks that train."""
        self._begin({"settings": settings, "fault": fault}, ranks)

    def script(self, script: Path, *arguments: Path, ranks: int = 2) -> None:
        """Run a script on ranks to its end, which must be a good one."""
        self._begin({"script": str(script), "arguments": [str(argument) for argument in arguments]}, ranks)
        ended = self.end()
        assert ended.code == 0, ended.output[-6000:]

    def _begin(self, what: dict[str, Any], ranks: int) -> None:
        for left in self.folder.glob("*"):
            left.unlink()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        request = {**what, "world_size": ranks, "port": port, "folder": str(self.folder)}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()

    def end(self) -> Ended:
        """Wait for the launcher's end."""
        assert self.process.stdout is not None
        code = int(self.process.stdout.readline())
        struck = self.folder / "struck"
        seconds = time.time() - float(struck.read_text()) if struck.exists() else 0.0
        return Ended(code, (self.folder / "output").read_text(errors="replace"), seconds)

    def __call__(self, settings: dict[str, Any], fault: dict[str, Any] | None = None, ranks: int = 2) -> Ended:
        self.begin(settings, fault, ranks)
        return self.end()

    def pids(self, patience: float = 60.0) -> list[int]:
        """The launcher's process and those of the ranks, as soon as they are there."""
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                ranks = json.loads((self.folder / "pids").read_text())
                return [int((self.folder / "launcher").read_text()), *ranks]
            except (OSError, ValueError):
                time.sleep(0.01)
        raise TimeoutError("no rank was started")

    def kill(self, pids: list[int]) -> None:
        """SIGKILL to those of `pids()` that are still there; a number may by now be another's process."""
        family = {self.process.pid, *self.pids()}
        ours = [pid for pid in pids if _parent(pid) in family]
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def launch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launcher]:
    """Launch a run, with a fault or none, and wait for its end."""
    launcher = Launcher(tmp_path_factory.mktemp("launch"))
    yield launcher
    launcher.process.kill()
    launcher.process.wait()
