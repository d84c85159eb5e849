"""Tells the run's lifeline what the training does: when it begins and ends, and that it moves."""

from composer import Callback, Logger, State

from codelm.train.lifeline.lifeline import Lifeline


class Heartbeat(Callback):
    """A batch, trained or evaluated, is a beat; without one for long the watchdog looks where the ranks stand."""

    def __init__(self, lifeline: Lifeline) -> None:
        self.progress = lifeline.progress

    def fit_start(self, state: State, logger: Logger) -> None:
        self._begin(state)

    def eval_standalone_start(self, state: State, logger: Logger) -> None:
        self._begin(state)

    def batch_end(self, state: State, logger: Logger) -> None:
        self.progress.batch = int(state.timestamp.batch)
        self.progress.move()

    def batch_start(self, state: State, logger: Logger) -> None:
        # What the callbacks did since the last batch was finished too.
        self.progress.move()

    def eval_batch_end(self, state: State, logger: Logger) -> None:
        self.progress.move()

    def eval_end(self, state: State, logger: Logger) -> None:
        self.progress.move()

    def eval_standalone_end(self, state: State, logger: Logger) -> None:
        self.progress.phase = "outside"

    def fit_end(self, state: State, logger: Logger) -> None:
        self.progress.phase = "outside"

    def _begin(self, state: State) -> None:
        self.progress.batch = int(state.timestamp.batch)
        self.progress.move()
        self.progress.phase = "training"
