"""A rank that fails ends all within seconds, and is the one that the user reads of last."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

HOST = socket.gethostname()
pytestmark = pytest.mark.world_size(2)


def fault(kind: str, *ranks: int, batch: int = 6) -> dict[str, Any]:
    return {"kind": kind, "ranks": ranks, "batch": batch}


@pytest.mark.parametrize("rank", [0, 1])
def test_an_error_of_one_rank(launch: Any, small: dict[str, Any], rank: int) -> None:
    ended = launch(small, fault("raise", rank))
    assert ended.code == 1
    assert ended.seconds < 10
    assert f"error: rank {rank} of 2 on {HOST} failed after batch 5: ValueError: boom" in ended.output
    assert f"Global rank {rank} (PID" in ended.last_words
    assert f"Global rank {1 - rank} (PID" not in ended.output


def test_a_wrong_input_that_one_rank_alone_meets(launch: Any, small: dict[str, Any]) -> None:
    ended = launch(small, fault("refuse", 1))
    assert ended.code == 2
    assert ended.seconds < 10
    assert f"rank 1 of 2 on {HOST} failed after batch 5: DataError: the shard is gone; copy it again" in ended.output
    assert "Global rank 1 (PID" in ended.last_words
    assert "Traceback" not in ended.output


def test_a_wrong_input_that_all_ranks_meet_is_one_sentence(launch: Any, small: dict[str, Any]) -> None:
    ended = launch(small, fault("refuse", 0, 1))
    assert ended.code == 2
    assert ended.output.count("the shard is gone; copy it again") == 1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank(launch: Any, small: dict[str, Any], rank: int) -> None:
    ended = launch(small, fault("kill", rank))
    assert ended.code == 256 - 9
    assert ended.seconds < 10
    assert f"Global rank {rank} (PID" in ended.last_words
    if rank == 1:
        assert f"rank 1 of 2 on {HOST} failed after batch 5: it was killed, perhaps by" in ended.output


def test_a_rank_that_leaves_as_if_all_were_well_does_not_make_the_run_a_success(
    launch: Any, small: dict[str, Any]
) -> None:
    ended = launch(small, fault("leave without a word", 1))
    assert ended.code == 1
    assert ended.seconds < 10
    assert f"rank 1 of 2 on {HOST} failed after batch 5" in ended.output


def test_after_a_crash_the_same_command_goes_on(launch: Any, small: dict[str, Any]) -> None:
    launch(small, fault("raise", 1))
    assert launch(small).code == 0
    lines = (Path(small["save_folder"]) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["batch"] for line in lines if "loss/train/total" in line] == [*range(1, 9)]
