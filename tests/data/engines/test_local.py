"""The engine: results in order, few tasks ahead, and a killed worker is one sentence."""

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from codelm.data.engines.local import LocalEngine, ShardEngine, whole_folder
from codelm.errors import EnvironmentFailure


def square(number: int) -> int:
    return number * number


def kill_at_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def touch(folder: Path, number: int) -> None:
    (folder / str(number)).touch(exist_ok=False)


def full(number: int) -> int:
    raise OSError(28, "No space left on device", f"file {number}")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_tasks_that_are_taken_as_needed(workers: int) -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for number in range(60):
            taken += 1
            yield number

    with LocalEngine(workers) as engine:
        for index, result in enumerate(engine.map(square, tasks())):
            assert result == index * index
            assert taken <= index + 4 * workers
        assert list(engine.map(square, [])) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_the_shards_of_a_stage_do_every_task_once(tmp_path: Path, workers: int) -> None:
    done: list[int] = []
    for shard in range(3):
        with ShardEngine(shard, 3, workers) as engine:
            numbers = list(engine.each(functools.partial(touch, tmp_path), range(10)))
        assert numbers == list(range(shard, 10, 3))
        done += numbers
    assert sorted(done) == sorted(int(path.name) for path in tmp_path.iterdir()) == list(range(10))


def test_a_killed_worker_is_one_sentence() -> None:
    with (
        LocalEngine(2) as engine,
        pytest.raises(EnvironmentFailure, match=r"memory ran out.*run the same command again"),
    ):
        list(engine.map(kill_at_three, range(10)))


def test_a_workers_error_reaches_the_caller_with_its_file() -> None:
    with LocalEngine(2) as engine, pytest.raises(OSError, match="file 0") as caught:
        list(engine.map(full, range(3)))
    assert (caught.value.errno, caught.value.filename) == (28, "file 0")


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with whole_folder(tmp_path / "deep" / "done", scratch) as folder:
        (folder / "file").write_text("x")
        assert not (tmp_path / "deep" / "done").exists()
    assert (tmp_path / "deep" / "done" / "file").read_text() == "x"

    def fail() -> None:
        with whole_folder(tmp_path / "failed", scratch) as folder:
            (folder / "file").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not (tmp_path / "failed").exists()
    assert list(scratch.iterdir()) == []


def test_the_second_of_two_who_did_the_same_task_leaves_what_the_first_left(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    with whole_folder(tmp_path / "done", scratch) as folder:
        (folder / "file").write_text("x")
        (tmp_path / "done").mkdir()
        (tmp_path / "done" / "file").write_text("x")
    assert (tmp_path / "done" / "file").read_text() == "x"
    assert list(scratch.iterdir()) == []
