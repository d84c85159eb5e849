"""How a process gives up its powers before it runs an untrusted program, and what this machine lets it give up.

The ladder, every rung taken that holds weight: a fresh user (where we are root), resource limits, an empty network
(where a process may make one; a worker makes it once for all its programs), Landlock + seccomp. The level that is
recorded names the highest: `none` < `rlimits` < `landlock`.
"""

import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from codelm.eval.sandbox import capabilities, kernel

try:
    import resource
except ImportError:  # not a POSIX system
    resource = None

LEVELS = ("none", "rlimits", "landlock")
"""From least to most isolation."""


@dataclass(frozen=True)
class Limits:
    """Bounds of one program: seconds, bytes, and counts."""

    wall_seconds: float = 10.0
    cpu_seconds: float = 5.0
    """Of all processes together."""
    memory_bytes: int = 1 << 30
    """Address space of each process, and what all together hold in memory."""
    output_bytes: int = 1 << 20
    """Printed on stdout and stderr together."""
    disk_bytes: int = 64 << 20
    """In all files of the job's folder."""
    processes: int = 32
    """Processes and threads."""
    open_files: int = 256

    def stretched(self, patience: float) -> "Limits":
        """So many times the wall and CPU time; all else as it is."""
        return replace(self, wall_seconds=self.wall_seconds * patience, cpu_seconds=self.cpu_seconds * patience)

    def to_dict(self) -> dict[str, Any]:
        """For the wire and for results."""
        return asdict(self)


@dataclass(frozen=True)
class Isolation:
    """What confines a program here."""

    level: str
    fresh_user: bool
    """Each program runs as a user of its own."""
    landlock_abi: int
    """0: no Landlock. From 4 on TCP is denied by it too, from 6 on signals to the outside."""
    seccomp: bool
    notes: tuple[str, ...] = ()
    """Why a rung is missing."""
    namespaces: bool = False
    """Programs run in a network and IPC namespace of their worker's own."""

    def to_dict(self) -> dict[str, Any]:
        """For the wire and for results."""
        return {**asdict(self), "notes": list(self.notes)}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> "Isolation":
        """The inverse of `to_dict`."""
        return Isolation(**{**fields, "notes": tuple(fields["notes"])})

    def describe(self) -> str:
        """As one line: `landlock (ABI 7, seccomp, fresh user)`."""
        if self.level not in LEVELS:
            return self.level
        parts = [f"ABI {self.landlock_abi}"] if self.landlock_abi else []
        parts += ["seccomp"] if self.seccomp else []
        parts += ["fresh user" if self.fresh_user else "own user"]
        parts += ["empty network"] if self.namespaces else []
        return f"{self.level} ({', '.join(parts)})"


def probe(fresh_user: bool) -> Isolation:
    """Find out what can be given up here; nothing is given up by the caller (a forked child tries it out)."""
    notes = []
    if resource is None:
        return Isolation("none", False, 0, False, ("this system has no resource limits",))
    if not fresh_user:
        notes.append(
            "not root, no unused user ids, or no CAP_DAC_READ_SEARCH for an interpreter in a private folder:"
            " programs run as this user, whose processes share one limit"
        )
    abi = kernel.landlock_abi()
    seccomp = kernel.seccomp_supported() and _works(_try_seccomp)
    namespaces = _works(kernel.enter_empty_network)
    if not abi:
        notes.append("no Landlock: the kernel is older than 5.13, built or booted without it, or a filter hides it")
    if not kernel.seccomp_supported():
        notes.append("no seccomp filter for this system or processor")
    elif not seccomp:
        notes.append("seccomp filters are refused here")
    if not namespaces:
        notes.append("no network namespace: making one takes CAP_SYS_ADMIN")
    return Isolation("landlock" if abi and seccomp else "rlimits", fresh_user, abi, seccomp, tuple(notes), namespaces)


def _try_seccomp() -> None:
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.seccomp_restrict(same_user=True, confine_signals=True)


def _works(attempt: Callable[[], None]) -> bool:
    """Whether it raises no error, tried in a child."""
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def confine(
    limits: Limits, isolation: Isolation, ruleset: int | None, user: int | None, address_space: bool = True
) -> None:
    """Give up the calling process's powers, for good: to be called after fork, before the untrusted program.

    Args:
        limits: what to bound.
        isolation: what `probe` found; every rung it names must hold.
        ruleset: the Landlock ruleset (see `make_ruleset`), needed where the isolation names Landlock.
        user: the fresh user id, needed where the isolation names one.
        address_space: memory is bounded as address space; otherwise as what can be written to, since some runtimes
            (V8, the JVM, Go) reserve many times the space that they use.

    Raises:
        OSError: when a rung that the probe found cannot be taken; the caller must then not run the program.
    """
    if resource is None:
        return
    _limit(limits, user, resource.RLIMIT_AS if address_space else resource.RLIMIT_DATA)
    if isolation.fresh_user:
        assert user is not None
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        # Changing users cleared these; without the first, /proc/self would not be the program's own.
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        kernel.prctl(kernel.PR_SET_PDEATHSIG, 9)
        if not isolation.fresh_user and os.geteuid() == 0:
            capabilities.keep_only_files()
    if isolation.landlock_abi:
        assert ruleset is not None
        kernel.landlock_restrict(ruleset)
    if isolation.seccomp:
        same_user = not isolation.fresh_user
        kernel.seccomp_restrict(same_user, confine_signals=same_user and isolation.landlock_abi < 6)


def make_ruleset(isolation: Isolation, readable: Iterable[str], devices: Iterable[str], folder: str) -> int | None:
    """The Landlock ruleset of programs that may read `readable`, use `devices`, and do as they like in `folder`."""
    if not isolation.landlock_abi:
        return None
    rules = [(path, kernel.READ) for path in readable]
    rules += [(path, kernel.READ_FILE | kernel.WRITE_FILE) for path in devices]
    return kernel.landlock_ruleset(isolation.landlock_abi, [*rules, (folder, kernel.EVERYTHING)])


def _limit(limits: Limits, user: int | None, memory: int) -> None:
    assert resource is not None
    processes = limits.processes if user is not None else limits.processes + _processes_of(os.getuid())
    seconds = math.ceil(limits.cpu_seconds)
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, seconds, seconds + 1),
        (memory, limits.memory_bytes, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.disk_bytes, limits.disk_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files, limits.open_files),
        (resource.RLIMIT_NPROC, processes, processes),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        ceiling = resource.getrlimit(kind)[1]
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(kind, (soft, hard))
        except (ValueError, OSError):
            if kind != memory or sys.platform == "linux":  # macOS knows no address-space limit
                raise


def _processes_of(uid: int) -> int:
    """Threads of a user, which is what RLIMIT_NPROC counts; 0 where that cannot be told."""
    count = 0
    try:
        names = os.listdir("/proc")
    except OSError:
        return 4096
    for name in names:
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count
