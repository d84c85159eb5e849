"""The engine on a Ray cluster: the same functions over the same tasks, on whichever node has a free core.

All nodes must see the sources and the output folder under the same paths, and have codelm installed.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

from codelm.data.engines.local import killed_worker, tidily
from codelm.errors import EnvironmentFailure

Task = TypeVar("Task")

_TASKS_AHEAD = 2
_RETRIES = 3


class RayEngine:
    """Ray tasks on the cluster that RAY_ADDRESS names, or on a Ray started here for the time of the preparation.

    A task whose worker died is run again elsewhere, up to three times. Ray's usage statistics and dashboard stay off.

    Args:
        num_workers: tasks at once; None means as many as the cluster has cores.

    Raises:
        EnvironmentFailure: when Ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, num_workers: int | None) -> None:
        # Ray reads it when it starts: nothing phones home.
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            import ray
        except ImportError:
            raise EnvironmentFailure(
                "engine: ray needs the package ray; pip install ray, or set engine to local"
            ) from None
        self._ray: Any = ray
        self._num_workers = num_workers
        self._started_here = False

    def __enter__(self) -> Self:
        if not self._ray.is_initialized():
            address = os.environ.get("RAY_ADDRESS")
            options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
            try:
                self._ray.init(log_to_driver=False, logging_level="warning", **options)
            except (ConnectionError, RuntimeError, ValueError) as error:
                reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
                raise EnvironmentFailure(f"the Ray cluster {address or 'here'} cannot be reached: {reason}") from None
            self._started_here = True
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._started_here:
            self._ray.shutdown()

    def each(self, function: Callable[[Task], object], tasks: Iterable[Task]) -> Iterator[int]:
        """As `Engine.each`.

        Raises:
            EnvironmentFailure: when a task's worker died four times.
        """
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        under_way = self._num_workers or _TASKS_AHEAD * max(1, cores)
        remote = self._ray.remote(max_retries=_RETRIES)(tidily)
        waiting: deque[Any] = deque()
        done = 0
        try:
            for task in tasks:
                waiting.append(remote.remote(function, task))
                if len(waiting) >= under_way:
                    self._result(waiting.popleft())
                    yield done
                    done += 1
            while waiting:
                self._result(waiting.popleft())
                yield done
                done += 1
        finally:
            for reference in waiting:
                self._ray.cancel(reference)

    def _result(self, reference: Any) -> None:
        try:
            self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            # The error of the function itself, as if it had run here.
            raise error.cause from None
        except (self._ray.exceptions.WorkerCrashedError, self._ray.exceptions.OutOfMemoryError):
            raise killed_worker() from None
