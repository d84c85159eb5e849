"""A run's hold on life: signals end it with a save, a crashed rank ends all, a hang ends with every rank's stack."""

import contextlib
import signal
import sys
import threading
import time
import traceback
from types import FrameType, TracebackType
from typing import Any

from codelm.errors import CodelmError
from codelm.train.board import Board
from codelm.train.lifeline.failure import Failure, may_follow_from_another
from codelm.train.lifeline.peers import introduce
from codelm.train.lifeline.sentinel import AGREE_SECONDS, Progress, Sentinel, leave

_HEAR_SECONDS = 1.5
"""How long the others need to read of a failure."""
_EXPLAIN_SECONDS = 4.0
"""How long a broken connection may wait for a better explanation."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Lifeline:
    """Held from the moment the ranks can talk to the end of the run; every rank must enter and leave."""

    def __init__(self, board: Board, watchdog_seconds: float | None) -> None:
        self.board = board.part("lifeline")
        self.main_board = board.part("main")
        self.progress = Progress()
        self.sentinel = Sentinel(self.board, introduce(self.board), self.progress, watchdog_seconds)
        self.before: dict[int, Any] = {}
        self.former_ear = -1
        self.heard: int | None = None
        """The signal that this rank's main thread has heard."""

    def __enter__(self) -> "Lifeline":
        # Signals reach the main thread alone; a run in another thread leaves them as they are.
        if threading.current_thread() is threading.main_thread():
            # Composer's own handlers, set when it is imported, leave at once and save nothing.
            self.before = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
            self.former_ear = signal.set_wakeup_fd(self.sentinel.mouth.fileno(), warn_on_full_buffer=False)
        self.sentinel.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, Exception) and self.board.world_size > 1:
            self.progress.phase = "failing"
            self._fail(error)
        # From here on a rank that is gone has only been faster.
        self.sentinel.ended.set()
        if error is None:
            self.all_arrive("end")
        self.sentinel.end()
        if self.before:
            signal.set_wakeup_fd(self.former_ear)
            # A rank that leaves at a signal hears the launcher's SIGTERM once more as soon as another has left.
            leaving = self.sentinel.stopping is not None and self.board.world_size > 1
            for number, handler in self.before.items():
                signal.signal(number, signal.SIG_IGN if leaving else handler)

    def stops_after(self, batch: int) -> int | None:
        """The signal after which the run ends with this batch; None while it goes on. Every rank asks at every batch.

        The first rank to ask once all know of the signal settles on the batch to come: none can have finished that one
        before, since each needs all others' gradients.
        """
        number = self.sentinel.stopping
        if number is None or self.board.world_size == 1:
            return number
        at = self.main_board.read("stop/at")
        if at is None:
            if not self.sentinel.agreed:
                return None
            at = self.main_board.put_first("stop/at", str(batch + 1))
        if int(at) < batch:
            leave(128 + number)
        return number if int(at) == batch else None

    def all_arrive(self, where: str) -> bool:
        """Whether every rank gets here within seconds; no collective is safe otherwise."""
        deadline = time.monotonic() + AGREE_SECONDS
        name = f"arrived/{where}"
        with contextlib.suppress(RuntimeError):
            count = self.main_board.count(name, 1)
            while count < self.board.world_size:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.02)
                count = self.main_board.count(name)
            return True
        # The board is rank 0's, which leaves when all have arrived, or is dead.
        return False

    def leave_together(self) -> None:
        """The run ends here before its time, on every rank: one that is gone has only been faster."""
        self.all_arrive("leaving")
        self.sentinel.ended.set()

    def stops_instead(self) -> int | None:
        """The signal that any rank has heard, for a run that would begin again; every rank must ask.

        No batch is left to stop after, and the next run's lifeline knows nothing of it.
        """
        # First this: a signal that comes later ends this rank at once, so that none falls in between.
        self.progress.phase = "outside"
        number = self.sentinel.stopping if self.heard is None else self.heard
        with contextlib.suppress(RuntimeError):
            if number is not None:
                self.main_board.put_first("stop/heard", str(number))
            self.all_arrive("beginning again")
            note = self.main_board.read("stop/heard")
            number = None if note is None else int(note)
        if number is not None:
            self.sentinel.stopping = number
        return number

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # During training the sentinel has heard it; the main thread asks for it between batches.
        self.heard = number
        if self.progress.phase == "outside":
            self.sentinel.look_for_the_lost()
            sys.exit(128 + number)

    def _fail(self, error: Exception) -> None:
        """Tell the others, write this rank's name and error last, and leave; rank 0 only raises what all may have."""
        rank, me = self.board.rank, self.sentinel.me
        if isinstance(error, CodelmError):
            if rank == 0:
                return  # Rank 0 says for all what all have found.
            # It ends all ranks, this one included, if it has found the same.
            time.sleep(_HEAR_SECONDS)
        elif may_follow_from_another(error):
            # The sentinel leaves as soon as the other rank, or its absence, explains it.
            self._wait_for_explanation()
        failure = Failure.of(me, self.progress.batch, error)
        self.sentinel.ended.set()
        with contextlib.suppress(RuntimeError):
            self.sentinel.raise_alarm("failed", failure.to_note())
        if not isinstance(error, CodelmError):
            traceback.print_exception(error)
        # The launcher shows the failing rank's output last, and this is the end of it.
        print(f"error: {failure.sentence(self.board.world_size)}", file=sys.stderr, flush=True)
        code = error.exit_code if isinstance(error, CodelmError) else 1
        time.sleep(_HEAR_SECONDS)
        # What is usually done at exit may wait for the other ranks.
        leave(code)

    def _wait_for_explanation(self) -> None:
        deadline = time.monotonic() + _EXPLAIN_SECONDS
        while time.monotonic() < deadline:
            time.sleep(0.1)
            self.sentinel.look_for_the_lost()
