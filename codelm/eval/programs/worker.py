"""One worker: takes programs on stdin, one a line, compiles and runs each in the sandbox, answers with verdicts.

A confined process for every step, which becomes the compiler, the interpreter or the program. Nothing that it says
counts but the nonce, which the last statement of its tests prints. Run as a script with nothing but the standard
library; the first line is the settings, answered by what isolation holds here.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Any

if __name__ == "__main__":
    _ROOT = os.path.abspath(__file__)
    for _ in range(4):
        _ROOT = os.path.dirname(_ROOT)
    sys.path.insert(0, _ROOT)

from codelm.eval.judge.worker import empty, serve
from codelm.eval.programs.marker import PLACEHOLDER
from codelm.eval.programs.reading import readable_paths
from codelm.eval.programs.watch import Ended, watch
from codelm.eval.sandbox import burial, capabilities, kernel
from codelm.eval.sandbox.confine import Limits, confine, probe
from codelm.eval.sandbox.interpreter import DEVICES, anyone_may_enter
from codelm.eval.sandbox.users import lease_users

COMPILE_CPU_SECONDS, COMPILE_WALL_SECONDS = 60.0, 600.0
"""Of every compiler: what it takes says nothing of the program, and tsc takes five seconds of an idle core."""
_PROCESSES, _OPEN_FILES, _DISK = 256, 1024, 512 << 20
_PATIENCE = 0.5


@dataclass(frozen=True)
class _Step:
    command: list[str]
    limits: Limits
    compiles: bool


class Worker:
    """Judges one program after another with one toolchain."""

    def __init__(self, limits: Limits, toolchain: dict[str, Any]):
        self.toolchain = toolchain
        self.limits = replace(limits, processes=_PROCESSES, open_files=_OPEN_FILES, disk_bytes=_DISK)
        self.users = lease_users()
        self.isolation = probe(fresh_user=self.users is not None)
        closed = not all(anyone_may_enter(os.path.dirname(os.path.realpath(p))) for p in toolchain["programs"])
        self.reads_by_capability = (
            self.users is not None
            and closed
            and self.isolation.landlock_abi > 0
            and capabilities.can_keep_reading(self.users.first)
        )
        if self.users is not None and closed and not self.reads_by_capability:
            self.users = None
            self.isolation = probe(fresh_user=False)
        if self.isolation.namespaces:
            kernel.enter_empty_network()
        place = tempfile.gettempdir()
        if self.users is not None and not anyone_may_enter(place):
            place = "/tmp"
        self.home = os.path.realpath(tempfile.mkdtemp(prefix="codelm-programs-", dir=place))
        os.chmod(self.home, 0o711)
        self.folder = os.path.join(self.home, "job")
        os.mkdir(self.folder, 0o700)
        self.ruleset = self._ruleset() if self.isolation.landlock_abi else None

    def _ruleset(self) -> int:
        rules = [(path, kernel.READ | kernel.EXECUTE) for path in readable_paths(self.toolchain["programs"])]
        rules += [(path, kernel.READ_FILE | kernel.WRITE_FILE) for path in DEVICES]
        rules += [(self.folder, kernel.EVERYTHING | kernel.EXECUTE)]
        return kernel.landlock_ruleset(self.isolation.landlock_abi, rules)

    def close(self) -> None:
        """Remove the folders."""
        empty(self.folder)
        shutil.rmtree(self.home, ignore_errors=True)

    def judge(self, job: dict[str, Any]) -> dict[str, Any]:
        """Judge one program; everything it started is gone afterwards.

        Raises:
            ChildProcessError: when a process of it did not die, or could not be confined.
        """
        user = self.users.fresh() if self.users else None
        if user is not None:
            os.chown(self.folder, user, user)
        nonce = secrets.token_hex(16)
        source = f"{job['program']}\n{job['test'].replace(PLACEHOLDER, nonce)}"
        path = os.path.join(self.folder, self.toolchain["file"])
        with open(path, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(source)
        if user is not None:
            os.chown(path, user, user)
        started, cpu_seconds = time.monotonic(), 0.0
        kind, detail = "failed", "it has no tests"
        for step in self._steps(job["patience"]):
            if user is None and step.command[0].startswith("./"):
                self._make_executable(step.command[0])
            ended = self._run(step, user, nonce)
            cpu_seconds += ended.cpu_seconds
            kind, detail = classify(ended, step.limits, step.compiles)
            if kind != "passed":
                break
        empty(self.folder)
        return {
            "kind": kind,
            "detail": detail,
            "seconds": round(time.monotonic() - started, 4),
            "cpu_seconds": round(cpu_seconds, 4),
            "sandbox": self.isolation.level,
            "judge": "in_process",
        }

    def _steps(self, patience: float) -> "list[_Step]":
        limits = self.limits.stretched(patience)
        steps = [_Step(self.toolchain["run"], limits, False)]
        if self.toolchain["compile"]:
            patient = replace(limits, cpu_seconds=COMPILE_CPU_SECONDS, wall_seconds=COMPILE_WALL_SECONDS)
            steps.insert(0, _Step(self.toolchain["compile"], patient, True))
        return steps

    def _make_executable(self, program: str) -> None:
        """As the linker did, had it the right to change modes, which it lacks as our own user."""
        with contextlib.suppress(OSError):
            handle = os.open(os.path.join(self.folder, program), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                os.fchmod(handle, 0o700)
            finally:
                os.close(handle)

    def _run(self, step: _Step, user: int | None, nonce: str) -> Ended:
        output, printed = os.pipe()
        child = os.fork()
        if child == 0:
            self._become(step, user, printed)
        os.close(printed)
        stopped: str | None = "the judge"
        try:
            ended = watch(child, output, step.limits, self.folder, None if step.compiles else nonce.encode())
            stopped = ended.stopped
        finally:
            end = burial.bury(child, user, 0.0 if stopped else _PATIENCE)
            os.close(output)
        if not end["clean"]:
            raise ChildProcessError("processes of the program survived")
        if end["alone"] and os.waitstatus_to_exitcode(end["status"]) == _REFUSED and not ended.output:
            raise ChildProcessError("the program could not be confined")
        cpu_seconds = max(ended.cpu_seconds, end["cpu_seconds"])
        return replace(ended, status=end["status"] if end["alone"] else None, cpu_seconds=cpu_seconds)

    def _become(self, step: _Step, user: int | None, printed: int) -> None:
        """Turn the forked process into the step's; never returns."""
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            for standard, handle in ((0, null), (1, printed), (2, printed)):
                os.dup2(handle, standard)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(self.folder)
            if self.reads_by_capability:
                capabilities.keep_capabilities()
            confine(step.limits, self.isolation, self.ruleset, user, address_space=False)
            if self.reads_by_capability:
                capabilities.keep_only_reading()
            os.closerange(3, 1024)
            os.execve(step.command[0], step.command, self._environment())
        except BaseException:
            os._exit(_REFUSED)

    def _environment(self) -> dict[str, str]:
        folders = [os.path.dirname(program) for program in self.toolchain["programs"]]
        own = {name: value.format(folder=self.folder) for name, value in self.toolchain["environment"].items()}
        path = os.pathsep.join(dict.fromkeys([*folders, "/usr/bin", "/bin"]))
        return {"PATH": path, "LANG": "C.UTF-8", "HOME": self.folder, "TMPDIR": self.folder, **own}


_REFUSED = 97


def classify(ended: Ended, limits: Limits, compiles: bool) -> tuple[str, str]:
    """The kind of verdict on a step, and a line for the reader; `passed`: the next step may come."""
    words = ended.words()
    if ended.finished and (ended.status is None or ended.status == 0):
        return "passed", "its tests finished"
    if ended.stopped == "wall":
        return "wall", f"more than {limits.wall_seconds:g} s"
    if ended.stopped == "cpu" or (ended.status is not None and os.WIFSIGNALED(ended.status) and _ran_out(ended)):
        return "cpu", f"more than {limits.cpu_seconds:g} s of CPU time"
    if ended.stopped == "memory" or any(word in ended.output for word in _OUT_OF_MEMORY):
        return "memory", f"more than {limits.memory_bytes >> 20} MiB: {words}"
    if compiles and ended.stopped == "output":
        return "failed", f"it does not compile: {words}"
    if ended.stopped == "output":
        return "output", f"more than {limits.output_bytes} bytes printed or {limits.disk_bytes} bytes of files"
    status = os.waitstatus_to_exitcode(ended.status or 0)
    if compiles:
        return ("passed", "") if status == 0 else ("failed", f"it does not compile: {words}")
    if status == -signal.SIGABRT:
        return "failed", f"it aborted: {words}"
    if status < 0:
        return "crashed", f"killed by signal {-status} ({signal.strsignal(-status)})"
    if status > 0:
        return "failed", f"exit status {status}: {words}"
    return "never-finished", "it ended before its tests did (exit status 0)"


_OUT_OF_MEMORY = (b"std::bad_alloc", b"OutOfMemoryError", b"heap out of memory", b"cannot allocate", b"Allowed memory")


def _ran_out(ended: Ended) -> bool:
    return os.WTERMSIG(ended.status or 0) == signal.SIGXCPU


def main() -> None:
    """Answer lines on stdin until it ends."""
    settings = json.loads(sys.stdin.readline())
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    serve(Worker(Limits(**settings["limits"]), settings["toolchain"]))


if __name__ == "__main__":
    main()
