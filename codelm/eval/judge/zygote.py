"""Forks the processes that untrusted programs run in, and buries them.

It is forked from the judge's worker before that has seen a single test, so its memory, which every program inherits
a copy of, holds none. Orders come over a socket, one program at a time: `start` (with the ends of the program's
sockets), then `end`; it says `died` when a program ends of itself.
"""

import array
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from codelm.eval.judge import candidate
from codelm.eval.sandbox import kernel
from codelm.eval.sandbox.burial import bury, is_dead
from codelm.eval.sandbox.confine import Isolation, Limits, confine
from codelm.eval.sandbox.interpreter import LIBRARY_HANDLE

_CONNECTION_HANDLE = 240
REFUSED = 97
"""The exit status of a process that could not be confined; the program was then never read."""


class Zygote:
    """The worker's handle on the zygote's process."""

    def __init__(self, limits: Limits, isolation: Isolation, ruleset: int | None, folder: str):
        self.connection, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self.connection.close()
                _run(theirs, limits, isolation, ruleset, folder)
            finally:
                os._exit(1)
        theirs.close()

    def start(self, user: int | None, connection: socket.socket, output: int, patience: float) -> None:
        """Start a program's process; it reads the program from `connection` once it is confined."""
        handles = array.array("i", [connection.fileno(), output])
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, handles)]
        self.connection.sendmsg([json.dumps({"start": user, "patience": patience}).encode()], ancillary)

    def await_death(self) -> None:
        """Receive the news of a program's death; to be called when there is something to receive.

        Raises:
            ChildProcessError: when it is the zygote that died.
        """
        if not self.connection.recv(65536):
            raise ChildProcessError("the zygote is gone")

    def end(self, patience: float = 0.0) -> dict[str, Any]:
        """Kill what is left of the program, after so many seconds in which it may die of itself.

        Returns:
            status (as of `waitpid`), alone (whether it died before we killed it), cpu_seconds, max_rss (bytes),
            survivors (processes it had left behind, now dead) and clean (whether all of them are).
        """
        self.connection.send(json.dumps({"end": patience}).encode())
        while True:
            message = json.loads(self.connection.recv(65536) or b'{"gone": true}')
            if "status" in message:
                return message
            if "gone" in message:
                raise ChildProcessError("the zygote is gone")


def _run(control: socket.socket, limits: Limits, isolation: Isolation, ruleset: int | None, folder: str) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    if sys.platform == "linux":
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    if isolation.namespaces:
        kernel.enter_empty_network()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    child, user, announced = None, None, False
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            if child is not None and not announced and is_dead(child):
                announced = True
                control.send(b'{"died": true}')
        if control not in ready:
            continue
        data, ancillary, _, _ = control.recvmsg(4096, socket.CMSG_SPACE(8))
        if not data:
            # The worker is gone, or done: nothing of the last program may outlive it.
            if child is not None:
                bury(child, user, 0.0)
            os._exit(0)
        order = json.loads(data)
        if "start" in order:
            handles = array.array("i")
            handles.frombytes(ancillary[0][2][:8])
            user, announced = order["start"], False
            child = os.fork()
            if child == 0:
                _become(handles, limits.stretched(order["patience"]), isolation, ruleset, folder, user)
            for handle in handles:
                os.close(handle)
        elif child is not None:
            control.send(json.dumps(bury(child, user, order["end"])).encode())
            child = None


def _become(
    handles: "array.array[int]",
    limits: Limits,
    isolation: Isolation,
    ruleset: int | None,
    folder: str,
    user: int | None,
) -> None:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(handles[1], 1)
        os.dup2(handles[1], 2)
        connection = socket.socket(fileno=os.dup2(handles[0], _CONNECTION_HANDLE, inheritable=False))
        os.chdir(folder)
        confine(limits, isolation, ruleset, user)
        os.closerange(3, LIBRARY_HANDLE)
        os.closerange(LIBRARY_HANDLE + 1, _CONNECTION_HANDLE)
    except BaseException:
        os._exit(REFUSED)
    try:
        candidate.serve(connection)
    finally:
        os._exit(1)
