"""One worker: an interpreter of the repository's environment that has imported pytest and the repository's
dependencies once, and forks a confined process for every job.

    runner ──stdin──► server (warm; holds the copy) ──fork──► job: confined, runs pytest in the copy, tells events

It never imports the repository itself. Lines on stdin are the settings, then jobs; on stdout `{"child": line}` is what
a job's process said, to be believed only with its nonce, and everything else is the server's own word.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import types
from typing import Any

_ROOT = os.path.abspath(__file__)
for _ in range(5):
    _ROOT = os.path.dirname(_ROOT)
if __name__ == "__main__":
    sys.path[0] = _ROOT

from codelm.eval.repository.guest import session, tree  # noqa: E402
from codelm.eval.sandbox import burial, capabilities, kernel  # noqa: E402
from codelm.eval.sandbox.confine import Limits, confine, probe  # noqa: E402
from codelm.eval.sandbox.interpreter import DEVICES, anyone_may_enter  # noqa: E402
from codelm.eval.sandbox.usage import bytes_below, processes_below  # noqa: E402
from codelm.eval.sandbox.users import lease_users  # noqa: E402

_TICK = 0.05
_LOOK_SECONDS = 0.1
_LOOK_SHARE = 0.05
"""Of our time, at most, goes into looking: a repository may have many files."""
_UNLIMITED = 1 << 62
_PATIENCE = 0.5
_OUTPUT_KEPT = 2000
_MOST_EVENTS_BYTES = 1 << 28


class Server:
    """Runs one job after another in its copy of the repository."""

    def __init__(self, settings: "dict[str, Any]"):
        lease = lease_users()
        self.user = lease.fresh() if lease else None
        self.lease = lease
        self.isolation = probe(fresh_user=self.user is not None)
        closed = not all(map(anyone_may_enter, filter(os.path.isdir, settings["prefixes"])))
        self.reads_by_capability = (
            self.user is not None
            and closed
            and self.isolation.landlock_abi > 0
            and capabilities.can_keep_reading(self.user)
        )
        if self.user is not None and closed and not self.reads_by_capability:
            self.user = None
            self.isolation = probe(fresh_user=False)
        if self.isolation.namespaces:
            kernel.enter_empty_network()
        place = tempfile.gettempdir()
        if self.user is not None and not anyone_may_enter(place):
            place = "/tmp"
        self.home = os.path.realpath(tempfile.mkdtemp(prefix="codelm-repository-", dir=place))
        os.chmod(self.home, 0o711)
        self.folder, self.scratch, stash = (os.path.join(self.home, name) for name in ("copy", "tmp", "stash"))
        os.mkdir(stash, 0o700)
        os.mkdir(self.scratch, 0o700)
        if self.user is not None:
            os.chown(self.scratch, self.user, self.user)
        self.tree = tree.Tree(settings["pristine"], self.folder, stash, self.user)
        self.measured = {self.scratch: 0, self.folder: bytes_below(self.folder, _UNLIMITED, _UNLIMITED)}
        """Folders that a job may write to, and bytes that are there before it does."""
        self.roots = [os.path.join(self.folder, root) if root else self.folder for root in settings["roots"]]
        self.ruleset = self._ruleset(settings["readable"]) if self.isolation.landlock_abi else None

    def _ruleset(self, readable: "list[list[str]]") -> int:
        rights = {"all": kernel.READ | kernel.EXECUTE, "names": kernel.READ_DIR}
        rules = [(path, rights[what]) for path, what in readable]
        rules += [(path, kernel.READ_FILE | kernel.WRITE_FILE) for path in DEVICES]
        own = kernel.EVERYTHING | kernel.EXECUTE
        return kernel.landlock_ruleset(self.isolation.landlock_abi, [*rules, (self.folder, own), (self.scratch, own)])

    def close(self) -> None:
        """Remove the folders."""
        shutil.rmtree(self.home, ignore_errors=True)

    def judge(self, job: "dict[str, Any]", say: Any) -> "dict[str, Any]":
        """Run one job; everything it started is gone afterwards, and the copy is as it was."""
        limits = Limits(**job["limits"])
        started = time.monotonic()
        self.tree.splice(job["files"])
        events, told = os.pipe()
        output, printed = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(events)
            os.close(output)
            self._become(job, limits, told, printed)
        os.close(told)
        os.close(printed)
        watched = _Watch(self, child, limits, job["silence_seconds"], events, output, say)
        stopped = watched.wait(started)
        end = burial.bury(child, self.user, _PATIENCE if stopped is None else 0.0)
        watched.drain()
        os.close(events)
        os.close(output)
        tree.empty(self.scratch)
        changed = self.tree.restore()
        end.update(stopped=stopped, changed=changed, seconds=time.monotonic() - started)
        end["cpu_seconds"] = max(end["cpu_seconds"], watched.cpu_seconds)
        end["printed"] = bytes(watched.last_words).decode(errors="replace")
        return end

    def _become(self, job: "dict[str, Any]", limits: Limits, told: int, printed: int) -> None:
        """Turn the forked process into the job; never returns."""
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDONLY)
            for standard, handle in ((0, null), (1, printed), (2, printed)):
                os.dup2(handle, standard)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE):
                signal.signal(number, signal.SIG_IGN if number == signal.SIGPIPE else signal.SIG_DFL)
            os.chdir(self.folder)
            if self.reads_by_capability:
                capabilities.keep_capabilities()
            confine(limits, self.isolation, self.ruleset, self.user)
            if self.reads_by_capability:
                capabilities.keep_only_reading()
            os.dup2(told, 3)
            os.closerange(4, 1024)
        except BaseException:
            os._exit(97)
        try:
            _run(job, self.folder, self.scratch, self.roots, 3)
        finally:
            os._exit(1)


def _run(job: "dict[str, Any]", folder: str, scratch: str, roots: "list[str]", told: int) -> None:
    process = os.getpid()

    def report(event: "dict[str, Any]") -> None:
        if os.getpid() != process:  # a test that forks has a copy of all this
            return
        line = json.dumps(event).encode() + b"\n"
        while line:
            line = line[os.write(told, line) :]

    os.environ.update(HOME=scratch, TMPDIR=scratch, PYTHONPATH=os.pathsep.join(roots))
    tempfile.tempdir = None
    sys.path[:0] = roots
    sys.argv = ["pytest"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    importlib.invalidate_caches()
    session.run(job["order"], folder, report)
    sys.stdout.flush()
    os._exit(0)


class _Watch:
    """Hands on what a job says, until it ends or must be ended."""

    def __init__(self, server: Server, child: int, limits: Limits, silence: float, events: int, output: int, say: Any):
        self.server, self.child, self.limits, self.silence = server, child, limits, silence
        self.events, self.output, self.say = events, output, say
        self.pending, self.last_words = b"", bytearray()
        self.told = self.printed = 0
        self.cpu_seconds = 0.0
        """Of all the job's processes, as far as that was seen."""
        self.testing = False
        """Within a test; what comes before, such as imports, takes what it takes."""
        for handle in (events, output):
            os.set_blocking(handle, False)

    def wait(self, started: float) -> "str | None":
        """None when the job ended of itself, else why it must end: wall, silence, output, cpu, memory, disk."""
        heard, next_look = started, started + _LOOK_SECONDS
        open_handles = {self.events, self.output}
        while open_handles:
            ready, _, _ = select.select(list(open_handles), [], [], _TICK)
            now = time.monotonic()
            for handle in ready:
                more = self._read(handle)
                if not more:
                    open_handles.discard(handle)
                elif handle == self.events:
                    heard = now
            if now - started > self.limits.wall_seconds:
                return "wall"
            if self.testing and now - heard > self.silence:
                return "silence"
            if self.printed > self.limits.output_bytes or self.told > _MOST_EVENTS_BYTES:
                return "output"
            if now > next_look:
                spent = time.thread_time()
                exceeded = self._look()
                if exceeded is not None:
                    return exceeded
                next_look = time.monotonic() + max(_LOOK_SECONDS, (time.thread_time() - spent) / _LOOK_SHARE)
            if not ready and burial.is_dead(self.child):
                return None
        return None

    def _look(self) -> "str | None":
        cpu_seconds, memory = processes_below(os.getpid(), self.limits.memory_bytes)
        self.cpu_seconds = max(self.cpu_seconds, cpu_seconds)
        if self.cpu_seconds > self.limits.cpu_seconds:
            return "cpu"
        if memory > self.limits.memory_bytes:
            return "memory"
        for folder, before in self.server.measured.items():
            most = before + self.limits.disk_bytes
            if bytes_below(folder, most, _UNLIMITED) > most:
                return "disk"
        return None

    def drain(self) -> None:
        """Take what is left in the pipes."""
        for handle in (self.events, self.output):
            while self._read(handle) and self.told <= _MOST_EVENTS_BYTES:
                pass

    def _read(self, handle: int) -> bool:
        try:
            chunk = os.read(handle, 1 << 16)
        except BlockingIOError:
            return False
        if handle == self.output:
            self.printed += len(chunk)
            self.last_words += chunk
            del self.last_words[:-_OUTPUT_KEPT]
        else:
            self.told += len(chunk)
            *lines, self.pending = (self.pending + chunk).split(b"\n")
            for line in lines:
                self.testing = line.startswith(b'{"start"') or (self.testing and not line.startswith(b'{"end"'))
                self.say({"child": line.decode(errors="replace")})
        return bool(chunk)


def _preload(names: "list[str]", own: "set[str]") -> "list[str]":
    """Import modules; those that could not be imported, or brought the repository's own packages with them."""
    refused = []
    for name in names:
        if name not in sys.modules and name.partition(".")[0] not in own:
            try:
                importlib.import_module(name)
            except BaseException:
                refused.append(name)
    return refused


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def main() -> None:
    """Answer lines on stdin until it ends."""
    voice = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(message: "dict[str, Any]") -> None:
        voice.write(json.dumps(message) + "\n")
        voice.flush()

    sys.path.remove(_ROOT)
    for name in [name for name in sys.modules if name.partition(".")[0] == "codelm"]:
        del sys.modules[name]  # the repository may be codelm itself
    settings = json.loads(sys.stdin.readline())
    own = set(settings["own"])
    refused = _preload(settings["preload"], own)
    if _threads() > 1 or own.intersection(sys.modules):
        say({"unsafe": "a dependency starts threads, or imports the repository, as it is imported"})
        return
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    server = Server(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    gc.collect()
    gc.freeze()
    try:
        say({"isolation": server.isolation.to_dict(), "home": server.home, "refused": refused})
        for line in sys.stdin:
            end = server.judge(json.loads(line), say)
            say({"end": end})
            if not end["clean"]:
                return
    finally:
        with contextlib.suppress(BrokenPipeError, ValueError):
            voice.close()
        server.close()


if __name__ == "__main__":
    main()
