"""Runs a pure function over many tasks in parallel processes; the results do not depend on how many there are.

Every stage of the pipeline is such a function from input files to an output folder, made whole by a rename: killed at
any moment, it is simply run again for the tasks whose output is not there.
"""

import ctypes
import functools
import itertools
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, Self, TypeVar

from codelm.errors import EnvironmentFailure

Task = TypeVar("Task")
Result = TypeVar("Result")


class Engine(Protocol):
    """What a stage hands its tasks to."""

    def each(self, function: Callable[[Task], object], tasks: Iterable[Task]) -> Iterator[int]:
        """Run `function` for every task, for what it writes; yields the number of each task in order, once it is done.

        Function and tasks must pickle. Few tasks are under way at once, so that they never pile up in memory.

        Raises:
            EnvironmentFailure: when a worker was killed, most often for want of memory.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None: ...


class LocalEngine:
    """Parallel processes on this machine, started at the first need and shared by all stages.

    One worker means this process.
    """

    def __init__(self, num_workers: int) -> None:
        self.num_workers = num_workers
        self._pool: ProcessPoolExecutor | None = None

    def each(self, function: Callable[[Task], object], tasks: Iterable[Task]) -> Iterator[int]:
        """As `Engine.each`."""
        for number, _ in enumerate(self.map(function, tasks)):
            yield number

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task], tasks_ahead: int = 4) -> Iterator[Result]:
        """The results in the order of the tasks; at most `tasks_ahead` tasks a worker are under way.

        Raises:
            EnvironmentFailure: when a worker was killed, most often for want of memory.
        """
        work = functools.partial(tidily, function)
        if self.num_workers <= 1:
            yield from map(work, tasks)
            return
        pool = self._started()
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                with _interrupts_held():
                    waiting.append(pool.submit(work, task))
                if len(waiting) >= tasks_ahead * self.num_workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise killed_worker() from None
        finally:
            for future in waiting:
                future.cancel()

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Forking a process with threads (a progress bar, PyTorch) can hang; spawned workers start clean.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.num_workers, mp_context=context, initializer=_die_with_parent)
        return self._pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._pool is None:
            return
        if kind is not None and issubclass(kind, KeyboardInterrupt | SystemExit):
            # Whoever asks for an end need not wait: what a task leaves is whole or absent.
            for process in list((self._pool._processes or {}).values()):
                process.kill()
        self._pool.shutdown(cancel_futures=True)


class ShardEngine(LocalEngine):
    """Does its own share of every stage's tasks alone: number `shard` of `shards`, as a task of a job array."""

    def __init__(self, shard: int, shards: int, num_workers: int) -> None:
        super().__init__(num_workers)
        self.shard, self.shards = shard, shards

    def each(self, function: Callable[[Task], object], tasks: Iterable[Task]) -> Iterator[int]:
        """As `Engine.each`, but for every task of number `shard`, `shard + shards`, …"""
        for number in super().each(function, itertools.islice(tasks, self.shard, None, self.shards)):
            yield self.shard + number * self.shards


def tidily(function: Callable[[Task], Result], task: Task) -> Result:
    """The result of a task; what it used is given back to the system.

    glibc keeps freed memory in pieces: a worker that has seen many files would hold twice what it needs.
    """
    result = function(task)
    trim = _malloc_trim()
    if trim is not None:
        trim(0)
    return result


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def killed_worker() -> EnvironmentFailure:
    """The sentence for a worker that died."""
    return EnvironmentFailure(
        "a worker process was killed, most often because memory ran out;"
        " set num_workers lower and run the same command again to continue"
    )


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started meanwhile never see Ctrl-C, not even while they import: their parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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
    temporary = scratch / f"{folder.name}.{socket.gethostname()}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        try:
            os.rename(temporary, folder)
        except OSError:
            # Another worker did the same task meanwhile, which leaves the same bytes.
            if not folder.is_dir():
                raise
            shutil.rmtree(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
