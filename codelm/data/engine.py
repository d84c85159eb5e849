"""Runs a pure function over many tasks in parallel processes; the results do not depend on how many there are.

Every stage of the pipeline is such a function from input files to an output folder, made whole by a rename: killed at
any moment, it is simply run again for the tasks whose output is not there.
"""

import multiprocessing
import multiprocessing.connection
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from codelm.errors import EnvironmentFailure

Task = TypeVar("Task")
Result = TypeVar("Result")


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], num_workers: int, ahead: int = 4
) -> Iterator[Result]:
    """The results in the order of the tasks; `function` and tasks must pickle. One worker means this process.

    At most `ahead` tasks a worker are under way, so that tasks and results never pile up in memory.

    Raises:
        EnvironmentFailure: when a worker was killed, most often for want of memory.
    """
    if num_workers <= 1:
        yield from map(function, tasks)
        return
    # Forking a process with threads (a progress bar, PyTorch) can hang; spawned workers import only what they need.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_workers, mp_context=context, initializer=_die_with_parent) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(function, task))
                if len(waiting) >= ahead * num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise EnvironmentFailure(
                "a worker process was killed, most often because memory ran out;"
                " set num_workers lower and run the same command again to continue"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


def _die_with_parent() -> None:
    """Workers of a parent that was killed would otherwise wait for tasks for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def whole_folder(folder: Path, scratch: Path) -> Iterator[Path]:
    """A folder to fill that appears under its name only once it is complete; on failure nothing is left.

    It is filled in `scratch`, on the same file system, which the next run empties after a kill.
    """
    temporary = scratch / f"{folder.name}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        os.rename(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
