"""One worker of the judge: a small Python process that takes jobs on stdin, one a line, and answers with verdicts.

    caller ──► worker (holds the tests) ──fork──► examiner: runs the tests
                  └─ zygote (holds nothing) ──fork──► the program, confined; only literals between it and the examiner

The first line is the settings, answered by what isolation holds here; the zygote exists before the first job arrives.
Run as a script with nothing but the standard library; it ends, and everything below it, when stdin closes.
"""

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

if __name__ == "__main__":
    _ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    sys.path.insert(0, _ROOT)

from codelm.eval.judge import examiner
from codelm.eval.judge.zygote import Zygote
from codelm.eval.sandbox import interpreter, kernel
from codelm.eval.sandbox.confine import Limits, make_ruleset, probe
from codelm.eval.sandbox.usage import bytes_below, processes_below
from codelm.eval.sandbox.users import lease_users

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None

_PRELOADED = (
    "abc",
    "ast",
    "asyncio",
    "bisect",
    "calendar",
    "cmath",
    "collections",
    "contextlib",
    "copy",
    "csv",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "inspect",
    "io",
    "itertools",
    "json",
    "math",
    "numbers",
    "operator",
    "os",
    "queue",
    "random",
    "re",
    "secrets",
    "statistics",
    "string",
    "struct",
    "sys",
    "textwrap",
    "threading",
    "time",
    "traceback",
    "types",
    "typing",
    "unicodedata",
    "uuid",
    "zlib",
)
_PATIENCE = 0.5
_LOOK_SECONDS = 0.05


class Worker:
    """Judges one job after another."""

    def __init__(self, limits: Limits, library: tuple[str, str]):
        self.limits = limits
        self.users = lease_users()
        self.isolation = probe(fresh_user=self.users is not None)
        self.cpu_seconds = 0.0
        """Of all processes of the program, as far as that was seen."""
        if sys.platform == "linux" and self.users is None:
            # Programs run as our own user: keep them from the memory that holds the tests, whatever else holds.
            kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
        place = tempfile.gettempdir()
        if self.users is not None and not interpreter.anyone_may_enter(place):
            place = "/tmp"
        self.home = os.path.realpath(tempfile.mkdtemp(prefix="codelm-judge-", dir=place))
        os.chmod(self.home, 0o711)
        self.folder = os.path.join(self.home, "job")
        os.mkdir(self.folder, 0o700)
        os.environ.update(HOME=self.folder, TMPDIR=self.folder)
        tempfile.tempdir = None
        ruleset = make_ruleset(self.isolation, interpreter.readable_paths(*library), interpreter.DEVICES, self.folder)
        self.zygote = Zygote(limits, self.isolation, ruleset, self.folder)

    def close(self) -> None:
        """End the zygote and remove the folders."""
        self.zygote.connection.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.zygote.pid, 0)
        empty(self.folder)
        shutil.rmtree(self.home, ignore_errors=True)

    def judge(self, job: dict[str, Any]) -> dict[str, Any]:
        """Judge one job; everything it started is gone afterwards.

        Raises:
            ChildProcessError: when the program could not be confined or did not die.
        """
        limits = self.limits.stretched(job["patience"])
        user = self.users.fresh() if self.users else None
        if user is not None:
            os.chown(self.folder, user, user)
        started = time.monotonic()
        ours, theirs = socket.socketpair()
        output, printed = os.pipe()
        self.zygote.start(user, theirs, printed, job["patience"])
        theirs.close()
        os.close(printed)
        examination, result = self.fork_examiner(ours, job)
        ours.close()
        outcome = {"outcome": "", "detail": ""}
        try:
            stopped = self.watch(started, limits, output, result)
            outcome = _read_outcome(result) if stopped is None else {"outcome": stopped, "detail": ""}
        finally:
            # A process that lets go of its socket is about to die: of what, is worth a moment.
            end = self.zygote.end(_PATIENCE if outcome["outcome"] == "gone" else 0.0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(examination, signal.SIGKILL)
            _, examiner_status = os.waitpid(examination, 0)
            os.close(output)
            os.close(result)
        if not end["clean"]:
            raise ChildProcessError("processes of the program survived")
        if outcome.get("outcome") == "unconfined":
            raise ChildProcessError(f"the program could not be confined (status {end['status']})")
        empty(self.folder)
        end["cpu_seconds"] = max(end["cpu_seconds"], self.cpu_seconds)
        kind, detail = _classify(outcome, end, examiner_status, limits)
        return {
            "kind": kind,
            "detail": detail,
            "seconds": round(time.monotonic() - started, 4),
            "cpu_seconds": round(end["cpu_seconds"], 4),
            "sandbox": self.isolation.level,
            "judge": job["judge"],
        }

    def fork_examiner(self, connection: socket.socket, job: dict[str, Any]) -> tuple[int, int]:
        """Start the tests' process.

        Returns:
            Its id, and where its outcome can be read.
        """
        result, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                self.zygote.connection.close()  # its end tells the zygote that the worker is gone
                _limit_examiner(self.limits.stretched(job["patience"]))
                null = os.open(os.devnull, os.O_RDWR)
                for standard in (0, 1, 2):
                    os.dup2(null, standard)
                os.write(write, json.dumps(examiner.examine(connection, job)).encode())
            finally:
                os._exit(0)
        os.close(write)
        return pid, result

    def watch(self, started: float, limits: Limits, output: int, result: int) -> str | None:
        """Wait for the examiner's result, draining what the program prints.

        Returns:
            None once there is a result, or what ended the program first: `wall`, `cpu`, `memory`, `output`, or `gone`
            (its main process died, and a child of it keeps the examiner waiting).
        """
        self.cpu_seconds, deadline, looked = 0.0, started + limits.wall_seconds, started
        poll = select.poll()
        poll.register(result, select.POLLIN)
        poll.register(output, select.POLLIN)
        poll.register(self.zygote.connection, select.POLLIN)
        printed, reason = 0, "wall"
        while True:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return reason
            ready = dict(poll.poll(1000 * min(remaining, _LOOK_SECONDS)))
            if output in ready:
                chunk = os.read(output, 1 << 16)
                printed += len(chunk)
                if not chunk:
                    poll.unregister(output)
                elif printed > limits.output_bytes:
                    return "output"
            elif result in ready:
                return None
            elif self.zygote.connection.fileno() in ready:
                self.zygote.await_death()
                deadline, reason = min(deadline, time.monotonic() + _PATIENCE), "gone"
            # By the clock: a program that prints now and then would never be looked at between its lines.
            if time.monotonic() - looked > _LOOK_SECONDS:
                exceeded = self.look(limits)
                if exceeded is not None:
                    return exceeded
                looked = time.monotonic()

    def look(self, limits: Limits) -> str | None:
        """What all processes and files of the program together have too much of, if anything."""
        cpu_seconds, memory = processes_below(self.zygote.pid, limits.memory_bytes)
        self.cpu_seconds = max(self.cpu_seconds, cpu_seconds)
        if self.cpu_seconds > limits.cpu_seconds:
            return "cpu"
        if memory > limits.memory_bytes:
            return "memory"
        return "output" if bytes_below(self.folder, limits.disk_bytes) > limits.disk_bytes else None


def _limit_examiner(limits: Limits) -> None:
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    if resource is not None:
        seconds = int(limits.cpu_seconds) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))


def _read_outcome(result: int) -> dict[str, str]:
    try:
        return json.loads(os.read(result, 1 << 16))
    except ValueError:
        return {"outcome": "no examiner", "detail": ""}


def _classify(outcome: dict[str, str], end: dict[str, Any], examiner_status: int, limits: Limits) -> tuple[str, str]:
    what, detail = outcome["outcome"], outcome["detail"]
    died_of = os.WTERMSIG(end["status"]) if end["alone"] and os.WIFSIGNALED(end["status"]) else 0
    spent = end["cpu_seconds"] >= limits.cpu_seconds
    out_of_cpu = f"more than {limits.cpu_seconds} s of CPU time"
    if what == "passed":
        return "passed", detail
    if what == "wall":
        return ("cpu", out_of_cpu) if spent else ("wall", f"more than {limits.wall_seconds} s")
    if what == "cpu":
        return "cpu", out_of_cpu
    if what == "output":
        return "output", f"more than {limits.output_bytes} bytes printed or {limits.disk_bytes} bytes of files"
    if what == "no examiner":
        if os.WIFSIGNALED(examiner_status) and os.WTERMSIG(examiner_status) in (signal.SIGXCPU, signal.SIGKILL):
            return "cpu", "the tests ran out of CPU time on its answers"
        return "memory", "the tests ran out of memory on its answers"
    if what == "memory":
        return "memory", detail or f"more than {limits.memory_bytes >> 20} MiB in all its processes"
    if what == "exit":
        return "never-finished", detail
    if what == "gone":
        if died_of == signal.SIGXCPU or (died_of == signal.SIGKILL and spent):
            return "cpu", out_of_cpu
        if died_of and end["max_rss"] > 0.8 * limits.memory_bytes:
            return "memory", f"killed by signal {died_of} with {end['max_rss'] >> 20} MiB in memory"
        if died_of:
            return "crashed", f"killed by signal {died_of} ({signal.strsignal(died_of)})"
        status = os.waitstatus_to_exitcode(end["status"]) if end["alone"] else "none"
        return "never-finished", f"its process ended before it answered (exit status {status})"
    return "failed", detail


def empty(folder: str) -> None:
    """Remove all that a program left; the folder itself stays, since Landlock's rule is about that very folder."""
    os.makedirs(folder, exist_ok=True)
    os.chmod(folder, 0o700)
    trees = []
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            trees.append(entry.path)
        else:
            os.unlink(entry.path)
    for start in range(0, len(trees), 500):
        # `rm` copes with a tree of any depth, and follows no links.
        for command in (["chmod", "-R", "u+rwX", "--"], ["rm", "-rf", "--"]):
            arguments = command + trees[start : start + 500]
            subprocess.run(arguments, env={"PATH": os.defpath}, stderr=subprocess.DEVNULL, check=False)
    if os.listdir(folder):
        raise ChildProcessError(f"files of a program could not be removed from {folder}")


def prepare_interpreter() -> tuple[str, str]:
    """Leave only the standard library importable, and import what programs use most; where the library is."""
    library = interpreter.import_standard_library_only()
    for name in _PRELOADED:
        importlib.import_module(name)
    return library


def main() -> None:
    """Answer lines on stdin until it ends."""
    library = prepare_interpreter()
    settings = json.loads(sys.stdin.readline())
    serve(Worker(Limits(**settings["limits"]), library))


def serve(worker: Any) -> None:
    """Say how a worker isolates, then answer each job on stdin with its verdict, a line of JSON each; close it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # by way of `finally`, so that nothing is left
    try:
        _reply({"isolation": worker.isolation.to_dict(), "home": worker.home})
        for line in sys.stdin:
            _reply(worker.judge(json.loads(line)))
    finally:
        worker.close()


def _reply(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
