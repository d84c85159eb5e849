"""End a run when validation gets no better."""

import logging
import math
from collections.abc import Collection
from typing import Any

from composer import Callback, Logger, State

from codelm.config.training.monitors import EarlyStopperSection
from codelm.errors import ConfigError

log = logging.getLogger(__name__)

STOPPED_METRIC = "early_stopper/stopped"
"""1 in the batch that ended the run; its checkpoint's `run.json` holds it, so the run is not taken up again."""
_MEANS = ("BitsPerByte", "CrossEntropy")


class EarlyStopper(Callback):
    """Looks after every evaluation; all ranks see the same figures. The count goes on when a run goes on."""

    def __init__(self, section: EarlyStopperSection) -> None:
        self.section = section
        self.best = math.inf
        self.best_batch = self.bad = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "best_batch": self.best_batch, "bad": self.bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.best_batch, self.bad = state["best"], state["best_batch"], state["bad"]

    def eval_after_all(self, state: State, logger: Logger) -> None:
        value = self._value(state)
        batch = int(state.timestamp.batch)
        if value < self.best - self.section.min_delta:
            self.best, self.best_batch, self.bad = value, batch, 0
            return
        self.bad += 1
        if self.bad < self.section.patience:
            return
        log.info(
            "early stop at batch %d: %s is %.4f and was %.4f at batch %d; no better in %d evaluations",
            batch,
            self.section.monitor,
            value,
            self.best,
            self.best_batch,
            self.bad,
        )
        logger.log_metrics({STOPPED_METRIC: 1.0})
        state.stop_training()

    def _value(self, state: State) -> float:
        """Every rank computes: reading a metric sums it over the ranks. NaN is no improvement."""
        name = self.section.monitor
        if name in _MEANS:
            found = [float(metrics[name].compute()) for metrics in state.eval_metrics.values()]
            return sum(found) / len(found) if found else math.nan
        _, _, rest = name.partition("/")
        label, _, metric = rest.rpartition("/")
        return float(state.eval_metrics[label][metric].compute())


def check_monitor(section: EarlyStopperSection, labels: Collection[str]) -> None:
    """Refuse a metric that no evaluation gives.

    Raises:
        ConfigError: with those that there are.
    """
    names = [f"metrics/{label}/{metric}" for label in labels for metric in _MEANS]
    if not names:
        raise ConfigError("callbacks.early_stopper watches validation, and there is no eval_data; give some")
    if section.monitor not in (*_MEANS, *names):
        raise ConfigError(
            f"callbacks.early_stopper.monitor is {section.monitor}, which no evaluation gives; there are"
            f" {', '.join([*_MEANS, *names][:6])}"
        )
