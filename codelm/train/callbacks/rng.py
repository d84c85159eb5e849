"""Keep the training's random numbers its own: evaluation does not move them, resuming restores them."""

from collections.abc import Callable

from composer import Callback, Logger, State
from composer.utils import reproducibility


class TrainingRng(Callback):
    """Evaluation may draw what it likes; the next training batch sees the generators as it left them."""

    def __init__(self) -> None:
        self.before_eval: list[dict] | None = None
        self.restore: Callable[[], None] | None = None

    def batch_start(self, state: State, logger: Logger) -> None:
        if self.restore is not None:
            self.restore()
            self.restore = None

    def eval_before_all(self, state: State, logger: Logger) -> None:
        self.before_eval = reproducibility.get_rng_state()

    def eval_after_all(self, state: State, logger: Logger) -> None:
        if self.before_eval is not None:
            reproducibility.load_rng_state(self.before_eval)
            self.before_eval = None
