"""A logger that fails, hangs or comes back never stops a run, and loses nothing that it can keep."""

import logging
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from codelm.train.loggers import steadfast
from codelm.train.loggers.destination import Destination, Row, RunInfo
from codelm.train.loggers.steadfast import SteadfastLogger

RUN = RunInfo("run", {})


class Memory:
    """Takes rows, and raises as often as it is told to."""

    def __init__(self, failures: int = 0, opening: bool = False) -> None:
        self.failures = failures
        self.opening = opening
        self.opened = 0
        self.rows: list[Row] = []
        self.closed = False

    def open(self, run: RunInfo) -> Destination:
        self.opened += 1
        if self.opening:
            self._fail()
        return self

    def write(self, rows: list[Row]) -> None:
        if not self.opening:
            self._fail()
        self.rows += rows

    def close(self) -> None:
        self.closed = True

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no such host\nand more")


def state(batch: int) -> Any:
    return SimpleNamespace(timestamp=SimpleNamespace(batch=batch))


def logged(
    opener: Callable[[RunInfo], Destination],
    batches: int,
    pause: float = 0.0,
    retry: float = 0.01,
    within: float = 60.0,
) -> None:
    """A run of so many batches that logs its loss."""
    logger = SteadfastLogger("place", opener, RUN, retry_seconds=retry, close_within=within)
    logger.init(state(0), None)  # pyright: ignore
    for batch in range(1, batches + 1):
        logger.log_metrics({"loss": 1.0 / batch, "bad": float("nan")})
        logger.batch_end(state(batch), None)  # pyright: ignore
        time.sleep(pause)
    logger.close(state(batches), None)  # pyright: ignore
    logger.post_close()


def test_every_row_arrives_in_order_and_what_is_not_finite_is_left_out() -> None:
    memory = Memory()
    logged(memory.open, 20)
    assert [row.batch for row in memory.rows] == [*range(1, 21)]
    assert memory.rows[3].metrics == {"loss": 0.25}
    assert memory.closed


@pytest.mark.parametrize("opening", [True, False], ids=["opening fails", "writing fails"])
def test_a_place_that_fails_is_warned_of_once_and_loses_nothing(
    opening: bool, caplog: pytest.LogCaptureFixture
) -> None:
    memory = Memory(failures=3, opening=opening)
    with caplog.at_level(logging.INFO, logger="codelm"):
        logged(memory.open, 40, pause=0.01)
    assert [row.batch for row in memory.rows] == [*range(1, 41)]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["loggers.place failed, training goes on without it: ConnectionError: no such host"]
    assert any("works again" in record.getMessage() for record in caplog.records)


def test_a_place_that_is_gone_for_good_costs_the_rows_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    memory = Memory(failures=10**6)
    logged(memory.open, 5)
    assert memory.rows == []
    assert "loggers.place failed (ConnectionError: no such host); 5 rows were not written; metrics.jsonl" in caplog.text


def test_a_place_that_exits_the_process_does_not(caplog: pytest.LogCaptureFixture) -> None:
    def leaves(run: RunInfo) -> Destination:
        raise SystemExit(1)

    logged(leaves, 3)
    assert "loggers.place" in caplog.text


def test_a_place_that_hangs_does_not_hold_training_and_is_left_behind(caplog: pytest.LogCaptureFixture) -> None:
    never = threading.Event()

    def hangs(run: RunInfo) -> Destination:
        never.wait(60)
        return Memory()

    began = time.monotonic()
    logged(hangs, 1000, within=0.2)
    assert time.monotonic() - began < 5
    assert "did not finish within" in caplog.text
    never.set()


def test_rows_that_wait_make_room_for_newer_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steadfast, "_KEPT_ROWS", 7)
    memory = Memory(failures=2)
    logged(memory.open, 30, pause=0.002, retry=0.02)
    assert memory.rows[-1].batch == 30
    assert len(memory.rows) <= 30
