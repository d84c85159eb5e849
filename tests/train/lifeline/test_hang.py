"""A run that does not move shows where every rank stands, and ends."""

from typing import Any

import pytest

pytestmark = pytest.mark.world_size(2)


def test_a_rank_that_is_stuck(launch: Any, small: dict[str, Any]) -> None:
    ended = launch({**small, "watchdog_seconds": 5.0}, {"kind": "hang", "ranks": [1], "batch": 6})
    assert ended.code == 1
    assert ended.seconds < 40
    first, second = ended.output.split("----- rank 1 of 2 on ")
    assert "----- rank 0 of 2 on " in first
    assert "all_reduce" in first
    assert "in batch_start" in second
    assert "error: nothing was finished in watchdog_seconds=5; above is where each rank stands" in second


@pytest.mark.slow
def test_a_rank_that_does_not_even_answer(launch: Any, small: dict[str, Any]) -> None:
    ended = launch({**small, "watchdog_seconds": 5.0}, {"kind": "stop itself", "ranks": [1], "batch": 6})
    assert ended.code != 0
    assert "all_reduce" in ended.output
    assert "it does not answer: stopped, or gone" in ended.output


@pytest.mark.slow
def test_rank_0_which_keeps_the_board_does_not_answer(launch: Any, small: dict[str, Any]) -> None:
    """Then C code, which needs nobody, shows the stack and ends the rank."""
    ended = launch({**small, "watchdog_seconds": 5.0}, {"kind": "stop itself", "ranks": [0], "batch": 6})
    assert ended.code != 0
    assert "Timeout (0:01:05)!" in ended.output
