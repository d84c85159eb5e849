"""The metrics of the present batch, for a checkpoint's `run.json`."""

import math
from typing import Any

from composer.loggers import LoggerDestination


class NewestMetrics(LoggerDestination):
    """What was logged since it was last taken; no rank need see what the others see."""

    def __init__(self) -> None:
        self.logged: dict[str, float] = {}

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        self.logged |= {name: float(value) for name, value in metrics.items()}

    def take(self) -> dict[str, float]:
        """Everything finite since the last call."""
        taken, self.logged = self.logged, {}
        return {name: value for name, value in taken.items() if math.isfinite(value)}
