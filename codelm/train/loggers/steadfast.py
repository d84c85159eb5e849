"""A logger that cannot stop or slow a run: it writes from its own thread, warns once, keeps rows and tries again."""

import logging
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination
from composer.utils import dist

from codelm.train.loggers.destination import Destination, Opener, Rescue, Row, RunInfo, Table, Unsent

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 60.0
_LAST_RETRY_SECONDS = 1800.0
_KEPT_ROWS = 20_000
_CLOSE_WITHIN = 60.0
_END_EARLY_WITHIN = 20.0
"""Launchers and schedulers kill 30 s after they have asked."""
_KEEP_WITHIN = 10.0
_CALLED_EVERY = 2.0
_AT_ONCE = 500


class SteadfastLogger(LoggerDestination):
    """Rank 0 alone writes. When opening or writing raises, rows wait (the oldest make room) for the next attempt."""

    def __init__(
        self,
        label: str,
        opener: Opener,
        run: RunInfo,
        rescue: Rescue | None = None,
        retry_seconds: float = _FIRST_RETRY_SECONDS,
        close_within: float = _CLOSE_WITHIN,
        keep_within: float = _KEEP_WITHIN,
    ) -> None:
        self.label = label
        self.run = run
        self.opener = opener
        self.rescue = rescue
        self.retry_seconds = retry_seconds
        self.close_within = close_within
        self.keep_within = keep_within
        self.pending: dict[str, float] = {}
        self.tables: dict[str, Table] = {}
        self.written = 0
        self.queue: queue.Queue[Row | None] = queue.Queue()
        self.thread: threading.Thread | None = None
        self.closing = threading.Event()
        self.out_of_time = ""
        self.turn = threading.Lock()
        self.is_back = False
        self.abandoned = False

    def init(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            self.thread = threading.Thread(target=self._work, name=f"logger-{self.label}", daemon=True)
            self.thread.start()

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if self.thread is None:
            return
        numbers = {name: float(value) for name, value in metrics.items()}
        if step is not None and step < self.written:
            self.queue.put(Row(step, time.time(), _finite(numbers)))  # of an earlier batch, and late
        else:
            self.pending.update(numbers)

    def log_table(
        self, columns: list[str], rows: list[list[Any]], name: str = "Table", step: int | None = None
    ) -> None:
        if self.thread is not None:
            self.tables[name] = Table(columns, rows)

    def batch_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def eval_after_all(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def eval_standalone_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def fit_end(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def close(self, state: State, logger: Logger) -> None:
        self._flush(state)

    def post_close(self) -> None:
        self.end(self.close_within)

    def ask_to_end(self) -> None:
        """What comes from here on is not written; wait for nothing."""
        self.queue.put(None)
        self.closing.set()

    def end(self, within: float) -> None:
        """Let what is left be written for so many seconds, then leave it behind; a second call does nothing."""
        thread, self.thread = self.thread, None
        if thread is None:
            return
        self.ask_to_end()
        try:
            thread.join(within)
            if thread.is_alive():
                self.out_of_time = f"did not finish within {within:.0f} s"
                self._call_back(thread)
            if thread.is_alive():
                log.warning(
                    "loggers.%s %s; it is left behind; metrics.jsonl has everything", self.label, self.out_of_time
                )
                self.abandon()
        except BaseException:  # Another Ctrl-C: now it must be quick, and nothing may hold up the process's exit.
            self.abandon()
            raise

    def _call_back(self, thread: threading.Thread) -> None:
        """End what the thread waits for, so that it comes back to keep its rows and says what became of them."""
        deadline = time.monotonic() + (self.keep_within if self.rescue is not None else 0.0)
        while True:
            # More than once: it may just be starting what it will wait for. But not what it keeps the rows with.
            with self.turn:
                if not self.is_back:
                    self._end_what_runs_beside()
            thread.join(max(0.0, min(_CALLED_EVERY, deadline - time.monotonic())))
            if not thread.is_alive() or time.monotonic() >= deadline:
                return

    def abandon(self) -> None:
        """Write, keep and open nothing from here on."""
        self.abandoned = True
        self._end_what_runs_beside()

    def _end_what_runs_beside(self) -> None:
        if self.rescue is not None:
            self.rescue.end()

    def _flush(self, state: State) -> None:
        self.written = int(state.timestamp.batch)
        if (self.pending or self.tables) and self.thread is not None:
            self.queue.put(Row(self.written, time.time(), _finite(self.pending), self.tables))
            self.pending, self.tables = {}, {}

    def _work(self) -> None:
        destination: Destination | None = None
        rows: list[Row] = []
        wait, warned, ended = self.retry_seconds, False, False
        while not self.abandoned:
            if not ended:
                ended = self._collect(rows)
            try:
                if destination is None:
                    destination = self.opener(self.run)
                while rows:
                    destination.write(rows[:_AT_ONCE])
                    del rows[:_AT_ONCE]
                if ended:
                    destination.close()
                    return
                if warned:
                    log.info("loggers.%s works again, and has the rows that waited", self.label)
                    warned, wait = False, self.retry_seconds
            except Unsent as unsent:
                log.warning("loggers.%s: %s", self.label, unsent)
                return
            except (Exception, SystemExit) as error:  # whatever a service or its package raises
                if self.abandoned:
                    return
                while self.out_of_time and not ended:
                    ended = self._collect(rows)
                if ended:
                    self._give_up(rows, self.out_of_time or f"failed ({_short(error)})")
                    return
                if not warned:
                    log.warning("loggers.%s failed, training goes on without it: %s", self.label, _short(error))
                    warned = True
                destination = None
                self._end_what_runs_beside()  # The next attempt begins anew.
                del rows[:-_KEPT_ROWS]
                self.closing.wait(wait)
                wait = min(2 * wait, _LAST_RETRY_SECONDS)

    def _give_up(self, rows: list[Row], why: str) -> None:
        with self.turn:
            self.is_back = True
        if not rows:
            kept = "what it had not sent yet is lost there"
        elif self.rescue is None:
            kept = f"{len(rows)} rows were not written"
        else:
            try:
                self.rescue.end()
                kept = f"{len(rows)} rows are kept: {self.rescue.keep(self.run, rows)}"
            except (Exception, SystemExit) as error:
                kept = f"{len(rows)} rows were not written, nor kept ({_short(error)})"
        log.warning("loggers.%s %s; %s; metrics.jsonl has everything", self.label, why, kept)

    def _collect(self, rows: list[Row]) -> bool:
        """Wait for a row and take all that are there; whether they were the last."""
        row = self.queue.get()
        while row is not None:
            rows.append(row)
            if self.queue.empty():
                return False
            row = self.queue.get()
        return True


@contextmanager
def ended_early(loggers: Sequence[LoggerDestination], within: float = _END_EARLY_WITHIN) -> Iterator[None]:
    """When a run ends before its time, let its loggers end before the process does.

    Composer closes them at exit, after what their packages do there: wandb waits for its service, without end.
    """
    try:
        yield
    except BaseException:
        steadfast = [logger for logger in loggers if isinstance(logger, SteadfastLogger)]
        for logger in steadfast:
            logger.ask_to_end()
        deadline = time.monotonic() + within
        try:
            for logger in steadfast:
                logger.end(max(0.0, deadline - time.monotonic()))
        except BaseException:
            for logger in steadfast:
                logger.abandon()
            raise
        raise


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _short(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:300]
