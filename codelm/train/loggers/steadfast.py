"""A logger that cannot stop or slow a run: it writes from its own thread, warns once, keeps rows and tries again."""

import logging
import math
import queue
import threading
import time
from typing import Any

from composer import Logger, State
from composer.loggers import LoggerDestination
from composer.utils import dist

from codelm.train.loggers.destination import Destination, Opener, Row, RunInfo, Table

log = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 60.0
_LAST_RETRY_SECONDS = 1800.0
_KEPT_ROWS = 20_000
_CLOSE_WITHIN = 60.0
_AT_ONCE = 500


class SteadfastLogger(LoggerDestination):
    """Rank 0 alone writes. When opening or writing raises, rows wait (the oldest make room) for the next attempt."""

    def __init__(self, label: str, opener: Opener, run: RunInfo, retry_seconds: float = _FIRST_RETRY_SECONDS) -> None:
        self.label = label
        self.run = run
        self.opener = opener
        self.retry_seconds = retry_seconds
        self.pending: dict[str, float] = {}
        self.tables: dict[str, Table] = {}
        self.written = 0
        self.queue: queue.Queue[Row | None] = queue.Queue()
        self.thread: threading.Thread | None = None
        self.closing = threading.Event()

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
        if self.thread is None:
            return
        self.queue.put(None)
        self.closing.set()
        self.thread.join(_CLOSE_WITHIN)
        if self.thread.is_alive():
            log.warning("loggers.%s did not finish within %.0f s; it is left behind", self.label, _CLOSE_WITHIN)
        self.thread = None

    def _flush(self, state: State) -> None:
        self.written = int(state.timestamp.batch)
        if (self.pending or self.tables) and self.thread is not None:
            self.queue.put(Row(self.written, time.time(), _finite(self.pending), self.tables))
            self.pending, self.tables = {}, {}

    def _work(self) -> None:
        destination: Destination | None = None
        rows: list[Row] = []
        wait, warned, ended = self.retry_seconds, False, False
        while True:
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
                    log.info("loggers.%s works again; nothing of the last %d rows is lost", self.label, _KEPT_ROWS)
                    warned, wait = False, self.retry_seconds
            except (Exception, SystemExit) as error:  # whatever a service or its package raises
                if ended:
                    log.warning("loggers.%s: %d rows were not written: %s", self.label, len(rows), _short(error))
                    return
                if not warned:
                    log.warning("loggers.%s failed, training goes on without it: %s", self.label, _short(error))
                    warned = True
                destination = None
                del rows[:-_KEPT_ROWS]
                self.closing.wait(wait)
                wait = min(2 * wait, _LAST_RETRY_SECONDS)

    def _collect(self, rows: list[Row]) -> bool:
        """Wait for a row and take all that are there; whether they were the last."""
        row = self.queue.get()
        while row is not None:
            rows.append(row)
            if self.queue.empty():
                return False
            row = self.queue.get()
        return True


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def _short(error: BaseException) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    return f"{type(error).__name__}: {first}"[:300]
