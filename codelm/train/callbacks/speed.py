"""How fast a run is: tokens a second, the share of the device's peak, the share of time that waits for data."""

import time
from collections import deque
from dataclasses import dataclass

from composer import Callback, Logger, State
from composer.utils import dist

from codelm.train.composer_model import Batch


@dataclass(frozen=True)
class _Step:
    tokens: int
    seconds: float
    waited: float


class SpeedMonitor(Callback):
    """Of training alone, evaluation and checkpoints left out, over the last batches.

    A step lasts from asking the loader for the batch until the weights are updated. Waiting is what the loader takes,
    the slowest rank's included.
    """

    def __init__(self, window_size: int, flops_per_token: float, peak_flops: float | None) -> None:
        """`peak_flops`: of one device, in FLOP/s; None where it is not known."""
        self.flops_per_token = flops_per_token
        self.peak_flops = peak_flops
        self.recent: deque[_Step] = deque(maxlen=window_size)
        self.asked = self.got = time.perf_counter()
        self.tokens = 0

    @property
    def tokens_per_second(self) -> float:
        """Of all ranks."""
        return sum(step.tokens for step in self.recent) / max(self._seconds(), 1e-9)

    @property
    def mfu(self) -> float | None:
        """The share of the peak that the model's own arithmetic takes, as `codelm.train.flops` counts it."""
        if self.peak_flops is None:
            return None
        return self.tokens_per_second * self.flops_per_token / (self.peak_flops * dist.get_world_size())

    @property
    def waiting(self) -> float:
        """The share of the time that waits for data."""
        return sum(step.waited for step in self.recent) / max(self._seconds(), 1e-9)

    def before_dataloader(self, state: State, logger: Logger) -> None:
        self.asked = time.perf_counter()

    def after_dataloader(self, state: State, logger: Logger) -> None:
        self.got = time.perf_counter()
        self.tokens = tokens_in(state.batch) * dist.get_world_size()

    def batch_end(self, state: State, logger: Logger) -> None:
        now = time.perf_counter()
        self.recent.append(_Step(self.tokens, now - self.asked, self.got - self.asked))
        metrics = {
            "throughput/tokens_per_sec": self.tokens_per_second,
            "throughput/tflops_per_device": self.tokens_per_second
            * self.flops_per_token
            / dist.get_world_size()
            / 1e12,
            "time/step_seconds": now - self.asked,
            "time/data_wait_share": self.waiting,
        }
        if self.mfu is not None:
            metrics["throughput/mfu"] = self.mfu
        logger.log_metrics(metrics)

    def _seconds(self) -> float:
        return sum(step.seconds for step in self.recent)


def tokens_in(batch: Batch) -> int:
    """Tokens of a rank's batch, predicted or not."""
    return batch["input_ids"].numel()
