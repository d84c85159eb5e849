"""Landlock, seccomp, prctl and namespaces by ctypes: what a process on Linux may give up, with its children, for good.

Sources: Linux `Documentation/userspace-api/landlock.rst`, `seccomp(2)`, `prctl(2)`, and the system call tables of
x86_64 (`arch/x86/entry/syscalls/syscall_64.tbl`) and of the generic table that aarch64 uses (`asm-generic/unistd.h`).
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECCOMP = 1, 4, 22
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38

_LANDLOCK_CREATE_RULESET, _LANDLOCK_ADD_RULE, _LANDLOCK_RESTRICT_SELF = 444, 445, 446
_LANDLOCK_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | 1 << 14 | 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
_NET_TCP = 0b11
_SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS = 0b11

READ = READ_FILE | READ_DIR
EVERYTHING = ((1 << 16) - 1) & ~EXECUTE & ~(1 << 6) & ~(1 << 11)
"""All rights below a folder but to execute files and to make device nodes."""


def prctl(option: int, argument: int) -> None:
    """`prctl(2)` with one argument.

    Raises:
        OSError: when the kernel refuses.
    """
    if _libc is None:
        raise OSError(errno.ENOSYS, "no prctl on this system")
    _check(_libc.prctl(option, *(ctypes.c_ulong(value) for value in (argument, 0, 0, 0))))


def landlock_abi() -> int:
    """The version of Landlock the kernel offers; 0 when there is none (or a container's filter hides it)."""
    if _libc is None:
        return 0
    version = _syscall(_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    return max(version, 0)


def landlock_ruleset(abi: int, rules: Iterable[tuple[str, int]]) -> int:
    """Make a ruleset that denies everything the kernel's `abi` knows, but for `rights` beneath each existing path.

    From ABI 4 on it denies TCP, from ABI 6 on abstract sockets of others and signals to processes outside.

    Returns:
        The ruleset's file descriptor, for any number of `landlock_restrict` calls.
    """
    handled = _RIGHTS_BY_ABI[min(abi, 5)]
    attribute = struct.pack(
        "=QQQ", handled, _NET_TCP if abi >= 4 else 0, _SCOPE_ABSTRACT_SOCKETS_AND_SIGNALS if abi >= 6 else 0
    )
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _check(_syscall(_LANDLOCK_CREATE_RULESET, attribute, size, 0))
    for path, rights in rules:
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            allowed = rights & handled
            if not os.path.isdir(path):
                allowed &= _FILE_RIGHTS
            rule = struct.pack("=Qi", allowed, handle)
            _check(_syscall(_LANDLOCK_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0))
        finally:
            os.close(handle)
    return ruleset


def landlock_restrict(ruleset: int) -> None:
    """Bind the calling thread and its future children to a ruleset (needs no_new_privs)."""
    _check(_syscall(_LANDLOCK_RESTRICT_SELF, ruleset, 0))


def enter_empty_network() -> None:
    """Move the calling process and its future children to a network without devices and to System V IPC of their own.

    Raises:
        OSError: when the kernel refuses, as it does without CAP_SYS_ADMIN.
    """
    if _libc is None:
        raise OSError(errno.ENOSYS, "no namespaces on this system")
    _check(_libc.unshare(_NEW_NET_AND_IPC))


# Denied whatever the user: new ways into the kernel, other processes' memory, the network, and what outlives a process.
_DENIED = {
    "x86_64": {
        "socket": 41, "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "io_uring_setup": 425,
        "io_uring_enter": 426, "io_uring_register": 427, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "add_key": 248, "request_key": 249, "keyctl": 250, "shmget": 29, "semget": 64, "msgget": 68, "mq_open": 240,
        "memfd_create": 319, "memfd_secret": 447, "unshare": 272, "setns": 308, "mount": 165, "umount2": 166,
        "pivot_root": 155, "chroot": 161, "fsopen": 430, "open_tree": 428, "move_mount": 429, "mount_setattr": 442,
        "open_by_handle_at": 304, "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "kcmp": 312,
        "process_madvise": 440, "personality": 135, "syslog": 103, "fanotify_init": 300, "acct": 163, "swapon": 167,
        "reboot": 169, "init_module": 175, "finit_module": 313, "kexec_load": 246, "kexec_file_load": 320,
    },
    "aarch64": {
        "socket": 198, "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "io_uring_setup": 425,
        "io_uring_enter": 426, "io_uring_register": 427, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
        "add_key": 217, "request_key": 218, "keyctl": 219, "shmget": 194, "semget": 190, "msgget": 186, "mq_open": 180,
        "memfd_create": 279, "memfd_secret": 447, "unshare": 97, "setns": 268, "mount": 40, "umount2": 39,
        "pivot_root": 41, "chroot": 51, "fsopen": 430, "open_tree": 428, "move_mount": 429, "mount_setattr": 442,
        "open_by_handle_at": 265, "pidfd_open": 434, "pidfd_getfd": 438, "pidfd_send_signal": 424, "kcmp": 272,
        "process_madvise": 440, "personality": 92, "syslog": 116, "fanotify_init": 262, "acct": 89, "swapon": 224,
        "reboot": 142, "init_module": 105, "finit_module": 273, "kexec_load": 104, "kexec_file_load": 294,
    },
}  # fmt: skip

# Landlock does not cover these on files that the program's own user owns: denied where that user is ours.
_DENIED_SAME_USER = {
    "x86_64": {
        "chmod": 90, "fchmodat": 268, "fchmodat2": 452, "chown": 92, "lchown": 94, "fchownat": 260, "utime": 132,
        "utimes": 235, "futimesat": 261, "utimensat": 280, "setxattr": 188, "lsetxattr": 189, "setxattrat": 463,
        "removexattr": 197, "lremovexattr": 198, "removexattrat": 466, "setpriority": 141, "ioprio_set": 251,
    },
    "aarch64": {
        "fchmodat": 53, "fchmodat2": 452, "fchownat": 54, "utimensat": 88, "setxattr": 5, "lsetxattr": 6,
        "setxattrat": 463, "removexattr": 14, "lremovexattr": 15, "removexattrat": 466, "setpriority": 140,
        "ioprio_set": 30,
    },
}  # fmt: skip

# Calls that name a process: allowed on itself only, where the program runs as our own user.
_LIMITS_OF_A_PROCESS = {
    "x86_64": {"prlimit64": 302, "sched_setaffinity": 203, "sched_setscheduler": 144, "migrate_pages": 256},
    "aarch64": {"prlimit64": 261, "sched_setaffinity": 122, "sched_setscheduler": 119, "migrate_pages": 238},
}
# The same for signals, where Landlock's scope does not keep them inside.
_SIGNALS = {
    "x86_64": {"kill": 62, "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297},
    "aarch64": {"kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240},
}

_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_CLONE3 = 435
_CLONE = {"x86_64": 56, "aarch64": 220}
_NEW_NAMESPACES = 0x7E020000
_NEW_NET_AND_IPC = 0x48000000
_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_DATA_NUMBER, _DATA_ARCH, _DATA_ARGUMENT0 = 0, 4, 16


def _refuse(error: int) -> int:
    return 0x00050000 | error


def seccomp_supported() -> bool:
    """Whether a filter exists for this machine's architecture."""
    return sys.platform == "linux" and platform.machine() in _AUDIT_ARCH


def seccomp_restrict(same_user: bool, confine_signals: bool) -> None:
    """Deny system calls for good (EPERM), above all `socket`; another architecture's call kills the process.

    Args:
        same_user: the program runs as our own user, so its files' modes and times are protected too.
        confine_signals: allow signals to the calling process only.
    """
    machine = platform.machine()
    denied = list(_DENIED[machine].values())
    own_process_only: list[int] = []
    if same_user:
        denied += _DENIED_SAME_USER[machine].values()
        own_process_only += _LIMITS_OF_A_PROCESS[machine].values()
    if confine_signals:
        own_process_only += _SIGNALS[machine].values()
    program = [
        (_LOAD, 0, 0, _DATA_ARCH),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _DATA_NUMBER),
    ]
    if machine == "x86_64":
        program += [(_JUMP_GREATER_EQUAL, 0, 1, _X32_BIT), (_RETURN, 0, 0, _refuse(errno.EPERM))]
    # glibc falls back to clone when clone3 is absent.
    program += [(_JUMP_EQUAL, 0, 1, _CLONE3), (_RETURN, 0, 0, _refuse(errno.ENOSYS))]
    program += [
        (_JUMP_EQUAL, 0, 4, _CLONE[machine]),
        (_LOAD, 0, 0, _DATA_ARGUMENT0),
        (_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACES),
        (_RETURN, 0, 0, _refuse(errno.EPERM)),
        (_RETURN, 0, 0, _ALLOW),
    ]
    for number in denied:
        program += [(_JUMP_EQUAL, 0, 1, number), (_RETURN, 0, 0, _refuse(errno.EPERM))]
    for number in own_process_only:
        program += [
            (_JUMP_EQUAL, 0, 5, number),
            (_LOAD, 0, 0, _DATA_ARGUMENT0),
            (_JUMP_EQUAL, 2, 0, os.getpid()),
            (_JUMP_EQUAL, 1, 0, 0),
            (_RETURN, 0, 0, _refuse(errno.EPERM)),
            (_RETURN, 0, 0, _ALLOW),
        ]
    program.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    header = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    if _libc is None:
        raise OSError(errno.ENOSYS, "no seccomp on this system")
    _check(_libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), header, ctypes.c_ulong(0), ctypes.c_ulong(0)))


def _syscall(number: int, *arguments: int | bytes | None) -> int:
    assert _libc is not None
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    return _libc.syscall(ctypes.c_long(number), *converted)


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
