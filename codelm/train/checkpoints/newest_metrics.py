"""The metrics of the present batch, for a checkpoint's `run.json`."""

import math
from typing import Any

from composer.loggers import LoggerDestination


class NewestMetrics(LoggerDestination):
    """What was logged since it was last taken; no rank need see what the others see.

    What comes late (`step`) is of weights that are gone, and is left out.
    """

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}
        self.taken_at = 0

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if step is None or step >= self.taken_at:
            self.logged |= {name: float(value) for name, value in metrics.items()}

    def take(self, batch: int) -> dict[str, float]:
        """Everything finite since the last call, after so many batches."""
        taken, self.logged, self.taken_at = self.logged, {}, batch
        return {name: value for name, value in taken.items() if math.isfinite(value)}
