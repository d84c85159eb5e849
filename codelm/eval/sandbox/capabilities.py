"""The powers of root that a program may keep: as a fresh user one, to read where only Landlock allows it.

An interpreter below a private folder (root's home) is closed to every other user. With `CAP_DAC_READ_SEARCH` alone a
program passes such folders; what it can read is then what its Landlock ruleset names, so it must have one. A container
may not have it (Docker's does not); programs then run as root, who owns such folders, with little of its power.
Source: `capabilities(7)`, `capset(2)`, `prctl(2)`.
"""

import ctypes
import os
import struct
import sys

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_VERSION_3 = 0x20080522
_DAC_OVERRIDE, _DAC_READ_SEARCH = 1, 2


def effective() -> int:
    """The capabilities that the calling process can use, a bit each; none where that cannot be told."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration, ValueError):
        return 0


def can_keep_reading(user: int) -> bool:
    """Whether a process that becomes `user` may keep `CAP_DAC_READ_SEARCH` here: a child tries it."""
    child = os.fork()
    if child == 0:
        try:
            keep_capabilities()
            os.setresuid(user, user, user)
            keep_only_reading()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def keep_capabilities() -> None:
    """Let the next change of user keep root's permitted capabilities, for `keep_only_reading` to give up."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def keep_only_reading() -> None:
    """Give up every capability but `CAP_DAC_READ_SEARCH`, which programs started from here have too.

    Raises:
        OSError: when the kernel refuses; the process may still hold all of them and must end.
    """
    mask = 1 << _DAC_READ_SEARCH
    _set(mask, mask)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _DAC_READ_SEARCH)


def keep_only_files() -> None:
    """Give up what root can do but to pass the modes of files, as far as it could; with no_new_privs, for good.

    Raises:
        OSError: when the kernel refuses.
    """
    _set(effective() & (1 << _DAC_OVERRIDE | 1 << _DAC_READ_SEARCH), 0)


def _set(mask: int, inheritable: int) -> None:
    assert _libc is not None
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", mask, mask, inheritable, 0, 0, 0), 24)
    if _libc.capset(header, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def _prctl(option: int, *arguments: int) -> None:
    assert _libc is not None
    padded = [*arguments, 0, 0, 0, 0][:4]
    if _libc.prctl(option, *(ctypes.c_ulong(argument) for argument in padded)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
