"""Whether a loss is out of the ordinary, from the losses before it."""

import math
import statistics
from collections import deque
from collections.abc import Iterable

# The median distance from the median of normally distributed numbers, in standard deviations, is 1 / 1.4826.
_DEVIATIONS = 1.4826
_LEAST_SPREAD = 0.005
"""Of the median: where losses hardly vary, a hair's breadth is no spike."""


class SpikeDetector:
    """Calls a loss a spike when it is far above the median of the last ordinary ones.

    Median and median distance, unlike mean and variance, do not care how high the few outliers are. Spikes do not enter
    the window, but when a whole window of them has passed, that is the new ordinary.
    """

    def __init__(self, window_size: int, outlier_threshold: float) -> None:
        self.threshold = outlier_threshold
        self.recent: deque[float] = deque(maxlen=window_size)
        self.in_a_row = 0
        self.usual = math.nan
        """The median that the last loss was held against."""

    def is_spike(self, loss: float) -> bool:
        """Whether the loss of this batch, the next in order, is a spike; a NaN is none, and is not remembered."""
        if not math.isfinite(loss):
            return False
        if len(self.recent) < (self.recent.maxlen or 0):
            self.recent.append(loss)
            return False
        self.usual = statistics.median(self.recent)
        spread = _DEVIATIONS * statistics.median(abs(value - self.usual) for value in self.recent)
        if loss <= self.usual + self.threshold * max(spread, _LEAST_SPREAD * self.usual):
            self.in_a_row = 0
            self.recent.append(loss)
            return False
        self.in_a_row += 1
        if self.in_a_row == self.recent.maxlen:
            self.restart([])
        return True

    def restart(self, recent: Iterable[float], in_a_row: int = 0) -> None:
        """Begin anew with some ordinary losses."""
        self.recent.clear()
        self.recent.extend(recent)
        self.in_a_row = in_a_row
