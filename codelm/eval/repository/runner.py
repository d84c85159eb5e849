"""Workers in parallel: each has a copy of the repository of its own, and one that breaks is replaced."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from queue import SimpleQueue
from typing import TypeVar

from codelm.errors import EnvironmentFailure, EvaluationError
from codelm.eval.repository.worker import Event, Ran, Run, Setup, Worker
from codelm.eval.sandbox.confine import LEVELS

_log = logging.getLogger(__name__)
_ATTEMPTS = 2

_Input = TypeVar("_Input")
_Output = TypeVar("_Output")


class Runner:
    """Workers in parallel; a context manager.

    Raises:
        EvaluationError: this machine isolates less than `min_level`.
        EnvironmentFailure: no worker can be started.
    """

    def __init__(self, setup: Setup, workers: int, min_level: str = "rlimits"):
        self.setup = setup
        self._free: SimpleQueue[Worker] = SimpleQueue()
        self._all: list[Worker] = []
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(workers)
        try:
            for _ in range(workers):
                self._free.put(self._start())
            self.isolation = min((w.isolation for w in self._all), key=lambda found: LEVELS.index(found.level))
            if LEVELS.index(self.isolation.level) < LEVELS.index(min_level):
                raise EvaluationError(
                    f"this machine isolates programs at level `{self.isolation.level}`"
                    f" ({'; '.join(self.isolation.notes)}), `{min_level}` is asked for: lower it only if you trust the"
                    " model and the tests, or run where Landlock and seccomp work"
                )
        except BaseException:
            self.close()
            raise

    def _start(self) -> Worker:
        try:
            worker = Worker(self.setup)
            if not worker.safe:
                worker.close()
                if self.setup.preload:
                    # Slower, but a fork of a process with threads may hang.
                    self.setup = replace(self.setup, preload=())
                    _log.info("dependencies start threads as they are imported: every run imports them anew")
                    return self._start()
                raise ChildProcessError("pytest's own plugins start threads, or import the repository")
        except (ChildProcessError, ValueError, KeyError) as error:
            raise EnvironmentFailure(f"no worker can be started in {self.setup.environment.python}: {error}") from None
        with self._lock:
            self._all.append(worker)
        return worker

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for worker in self._all:
            worker.close(in_a_hurry=True)
        self._all = []

    def processes(self) -> list[int]:
        """The ids of the workers' processes, each of which is the parent of its runs."""
        return [worker.process.pid for worker in self._all]

    def map(
        self,
        function: Callable[[Callable[..., Ran], _Input], _Output],
        inputs: Iterable[_Input],
        give_up: Callable[[_Input, str], _Output] | None = None,
    ) -> Iterator[tuple[_Input, _Output]]:
        """Call a function on each of some inputs, several at once; results come as they are ready.

        Args:
            function: gets something to start runs with (`Worker.run`, on one and the same worker), and an input.
            give_up: gives the result for an input on which two workers broke, from it and the reason.

        Raises:
            EnvironmentFailure: workers broke on an input and there is no `give_up`, or none can be started.
        """
        inputs = iter(inputs)
        running: dict[Future[_Output], _Input] = {}
        exhausted = False
        try:
            while running or not exhausted:
                while not exhausted and len(running) < self._threads._max_workers:
                    try:
                        given = next(inputs)
                    except StopIteration:
                        exhausted = True
                    else:
                        running[self._threads.submit(self._on_a_worker, function, given, give_up)] = given
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield running.pop(future), future.result()
        finally:
            for future in running:
                future.cancel()

    def _on_a_worker(
        self,
        function: Callable[[Callable[..., Ran], _Input], _Output],
        given: _Input,
        give_up: Callable[[_Input, str], _Output] | None,
    ) -> _Output:
        for attempt in range(_ATTEMPTS):
            worker = self._free.get()
            try:
                result = function(worker.run, given)
            except ChildProcessError as error:
                _log.warning("a worker broke: %s", error)
                with self._lock:
                    self._all.remove(worker)
                worker.close(in_a_hurry=True)
                self._free.put(self._start())
                if attempt + 1 == _ATTEMPTS:
                    if give_up is not None:
                        return give_up(given, str(error))
                    raise EnvironmentFailure(f"workers break on the same run: {error}") from None
            except BaseException:
                self._free.put(worker)
                raise
            else:
                self._free.put(worker)
                return result
        raise AssertionError

    def run(self, run: Run, tell: Callable[[Event], None] | None = None) -> Ran:
        """One run on any worker."""
        ((_, ran),) = self.map(lambda start, run: start(run, tell), [run])
        return ran
