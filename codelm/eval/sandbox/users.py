"""User ids for untrusted programs: where we are root, a block of otherwise unused ids is leased to each judge.

A fresh user makes RLIMIT_NPROC count (it does nothing for root), keeps the program from every file and process of
others, and lets `kill(-1)` as that user end whatever it left behind.
"""

import os
import pwd
import socket

from codelm.eval.sandbox.capabilities import effective

_FIRST, _BLOCK, _BLOCKS = 50_000, 64, 128
_CAPABILITIES = (0, 1, 5, 6, 7)  # CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID


class UserLease:
    """A block of user ids that no other judge on this machine uses; given back when closed or when we die."""

    def __init__(self, first: int, lock: socket.socket | None):
        self.first = first
        self._lock = lock
        self._next = 0

    def fresh(self) -> int:
        """The next user id of the block; one comes round again only after the `_BLOCK - 1` others."""
        self._next = (self._next + 1) % _BLOCK
        return self.first + self._next

    def close(self) -> None:
        """Give the block back."""
        if self._lock is not None:
            self._lock.close()


def lease_users() -> UserLease | None:
    """Lease a block of user ids, or None where we may not change users: not root, or a root without its powers."""
    if os.geteuid() != 0 or not _capable() or not _mapped(_FIRST + _BLOCK * _BLOCKS):
        return None
    busy = _users_with_processes()
    for block in range(_BLOCKS):
        first = _FIRST + block * _BLOCK
        ids = range(first, first + _BLOCK)
        if busy.intersection(ids) or any(map(_is_account, ids)):
            continue
        lock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # An abstract name: no file is left behind, and the kernel frees it when its holder dies.
            lock.bind(f"\0codelm-judge-users-{first}")
        except OSError:
            lock.close()
            continue
        return UserLease(first, lock)
    return None


def _capable() -> bool:
    """Whether root may here do what it takes: chown, pass file modes, kill, and change group and user."""
    held = effective()
    return all(held >> capability & 1 for capability in _CAPABILITIES)


def _mapped(highest: int) -> bool:
    try:
        with open("/proc/self/uid_map") as table:
            spans = [tuple(map(int, line.split())) for line in table]
    except (OSError, ValueError):
        return False
    return any(start <= _FIRST and highest <= start + count for start, _, count in spans)


def _is_account(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _users_with_processes() -> set[int]:
    users = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                users.add(os.stat(f"/proc/{name}").st_uid)
            except OSError:
                continue
    return users
