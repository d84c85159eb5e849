"""A thread of each rank that listens for signals and for the other ranks, whatever the training is waiting for.

Python runs a signal's handler only between two instructions of the main thread, which may stand in a collective for
ever; the interpreter writes the signal's number to a socket at once, and this thread reads it.
"""

import contextlib
import faulthandler
import json
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from codelm.console import say_at_once
from codelm.train.board import Board
from codelm.train.lifeline.failure import Failure
from codelm.train.lifeline.peers import Peer
from codelm.train.lifeline.stacks import gather_stacks

AGREE_SECONDS = 5.0
"""How long all ranks have to answer that they know of a signal."""
_LISTEN_SECONDS = 0.5
_NEWS_SECONDS = 2.0
"""How long after a rank has vanished its launcher may take to send SIGTERM."""
_LAST_RESORT_SECONDS = 60.0


@dataclass
class Progress:
    """What the training last did; written by the main thread, read by the sentinel."""

    batch: int = 0
    moved: float = field(default_factory=time.monotonic)
    phase: Literal["outside", "training", "failing"] = "outside"
    """training: a signal waits for the end of a batch, a hang is looked for; failing: an error is on its way out."""

    def move(self) -> None:
        """Something was finished."""
        self.moved = time.monotonic()

    def silent_for(self) -> float:
        """Seconds since something was finished."""
        return time.monotonic() - self.moved


class Sentinel(threading.Thread):
    """Acts on what cannot wait for the main thread; `stopping` and `agreed` are for the main thread to read."""

    def __init__(self, board: Board, peers: list[Peer], progress: Progress, watchdog_seconds: float | None) -> None:
        super().__init__(name="sentinel", daemon=True)
        self.board = board
        self.peers = peers
        self.me = peers[board.rank]
        self.progress = progress
        self.watchdog_seconds = watchdog_seconds
        self.ended = threading.Event()
        self.stopping: int | None = None
        """The signal after which the run ends."""
        self.agreed = False
        """All ranks know of it."""
        self.signals: list[int] = []
        self.ear, self.mouth = socket.socketpair()
        self.mouth.setblocking(False)
        self.leaving = threading.Lock()
        self.alarms = 0
        self.rearmed = 0.0

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                for number in self._listen(_LISTEN_SECONDS):
                    self._hear(number)
                self._look_around()
                self._look_for_hang()
            except RuntimeError:
                # The board is rank 0's, and gone with it.
                if not self.ended.is_set():
                    self._lost(self.peers[0])

    def end(self) -> None:
        """The run has ended: listen no more."""
        self.ended.set()
        if self.watchdog_seconds is not None:
            faulthandler.cancel_dump_traceback_later()
        with contextlib.suppress(OSError):
            self.mouth.send(b"\0")
        self.join()
        self.ear.close()
        self.mouth.close()

    def raise_alarm(self, kind: str, note: str) -> None:
        """Tell all ranks something; the first note of a kind holds."""
        self.board.put_first(kind, note)
        self.board.count("alarms", 1)

    def _listen(self, seconds: float) -> list[int]:
        self.ear.settimeout(seconds)
        try:
            return [number for number in self.ear.recv(64) if number in (signal.SIGINT, signal.SIGTERM)]
        except TimeoutError:
            return []

    def _hear(self, number: int) -> None:
        self.signals.append(number)
        if self.signals.count(signal.SIGINT) > 1:
            _say("interrupted twice: leaving at once")
            leave(128 + signal.SIGINT)
        self.look_for_the_lost()
        if len(self.signals) > 1 or self.progress.phase == "failing":
            return
        if self.progress.phase == "training":
            self.raise_alarm("stop", str(number))
        elif not self.ended.wait(AGREE_SECONDS):
            # The handler ends the main thread, unless that stands in a collective.
            leave(128 + number)

    def _look_around(self) -> None:
        self.look_for_the_lost()
        if self.board.count("alarms") == self.alarms:
            return
        self.alarms = self.board.count("alarms")
        note = self.board.read("failed")
        if note is not None and Failure.from_note(note).rank != self.me.rank:
            self._follow(Failure.from_note(note))
        if self.board.read("hang") is not None:
            self._show_hang()
        note = self.board.read("stop")
        if note is not None and self.stopping is None:
            self._agree_to_stop(int(note))

    def _agree_to_stop(self, number: int) -> None:
        """Tell that this rank knows, and see that every rank does: a dead one would leave the others waiting."""
        # Before a word is said, for which a stderr that nobody empties would make this thread wait.
        self.stopping = number
        if self.me.rank == 0:
            again = "; Ctrl-C again leaves at once" if number == signal.SIGINT else ""
            _say(f"{signal.Signals(number).name}: finishing the batch and saving{again}")
        self.board.count("stop/known", 1)
        deadline = time.monotonic() + AGREE_SECONDS
        while self.board.count("stop/known") < len(self.peers):
            self.look_for_the_lost()
            if time.monotonic() > deadline:
                if self.me.rank == 0:
                    _say("not every rank answers: leaving without a save; the last checkpoint is good")
                leave(128 + number)
            for again in self._listen(0.1):
                self._hear(again)
        self.agreed = True

    def _look_for_hang(self) -> None:
        if self.watchdog_seconds is None or self.progress.phase != "training":
            return
        if self.progress.silent_for() > self.watchdog_seconds:
            self.raise_alarm("hang", json.dumps({"rank": self.me.rank}))
        elif time.monotonic() > self.rearmed:
            # Should this thread be stuck too (a lock held for ever, a stopped rank 0), C code has the last word.
            faulthandler.dump_traceback_later(self.watchdog_seconds + _LAST_RESORT_SECONDS, exit=True)
            self.rearmed = time.monotonic() + _LAST_RESORT_SECONDS / 4

    def _show_hang(self) -> NoReturn:
        text = gather_stacks(self.board, self.peers, self.progress.batch, self.progress.silent_for())
        if text is not None:
            _say(
                f"{text}\nerror: nothing was finished in watchdog_seconds={self.watchdog_seconds:g}; above is where"
                " each rank stands. The last checkpoint is good: run the same command again, or raise watchdog_seconds"
            )
        leave(1)

    def look_for_the_lost(self) -> None:
        """Leave if a rank of this machine has ended without the others."""
        gone = next((peer for peer in self.peers if peer.shares_launcher_with(self.me) and peer.is_gone()), None)
        if gone is not None and not self.ended.is_set():
            self._lost(gone)

    def _lost(self, peer: Peer) -> NoReturn:
        """Leave because a rank is gone, as itself or another says; or else without a word from it."""
        failure = Failure.without_words(peer, self.progress.batch)
        with contextlib.suppress(RuntimeError):
            failure = Failure.from_note(self.board.put_first("failed", failure.to_note()))
            self.board.count("alarms", 1)
        self._follow(failure)

    def _follow(self, failure: Failure) -> NoReturn:
        """Leave because of another rank.

        Composer's launcher returns the first exit code that is not 0, shows that rank's output, and names it in its
        last line: so that this is the rank that failed, the others on its machine leave with 0. That is safe only where
        the launcher knows of the failure, which its SIGTERM tells, or will learn of it from the rank's own code.
        """
        # The main thread may have come to the same end; one of the two says so.
        self.leaving.acquire()
        culprit = self.peers[failure.rank]
        if self.me.rank == 0 or culprit.rank == 0:
            _say(failure.sentence(len(self.peers)))
        near = culprit.shares_launcher_with(self.me)
        told = near and (not culprit.is_gone() or self._sigterm_comes())
        leave(0 if told else 1)

    def _sigterm_comes(self) -> bool:
        deadline = time.monotonic() + _NEWS_SECONDS
        while signal.SIGTERM not in self.signals and time.monotonic() < deadline:
            self.signals += self._listen(0.1)
        return signal.SIGTERM in self.signals


def leave(code: int) -> NoReturn:
    """End the process now, whatever its threads wait for."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)


def _say(text: str) -> None:
    say_at_once(f"\n{text}\n")
