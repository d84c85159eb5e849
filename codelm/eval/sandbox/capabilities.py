"""The one power of root that a program may keep as a fresh user: to read where only Landlock allows it.

An interpreter below a private folder (root's home) is closed to every other user. With `CAP_DAC_READ_SEARCH` alone a
program passes such folders; what it can read is then what its Landlock ruleset names, so it must have one.
Source: `capabilities(7)`, `capset(2)`, `prctl(2)`.
"""

import ctypes
import os
import struct
import sys

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 8, 47, 2
_VERSION_3 = 0x20080522
_DAC_READ_SEARCH = 2


def keep_capabilities() -> None:
    """Let the next change of user keep root's permitted capabilities, for `keep_only_reading` to give up."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def keep_only_reading() -> None:
    """Give up every capability but `CAP_DAC_READ_SEARCH`, which programs started from here have too.

    Raises:
        OSError: when the kernel refuses; the process may still hold all of them and must end.
    """
    assert _libc is not None
    mask = 1 << _DAC_READ_SEARCH
    header = ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(struct.pack("=6I", mask, mask, mask, 0, 0, 0), 24)
    if _libc.capset(header, data) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _DAC_READ_SEARCH)


def _prctl(option: int, *arguments: int) -> None:
    assert _libc is not None
    padded = [*arguments, 0, 0, 0, 0][:4]
    if _libc.prctl(option, *(ctypes.c_ulong(argument) for argument in padded)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
