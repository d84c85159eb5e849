"""Lengths of the weights and of the update, each as one vector over all ranks, right also where weights are sharded."""

import torch
from composer import Callback, Logger, State
from torch import Tensor

from codelm.train.optim.gradients import global_norm

_FSDP1 = 1


class OptimizerMonitor(Callback):
    """Every so many batches; the gradients' length is the guard's to log, which measures it before every step.

    Under FSDP1 a rank's weights do not say which part of the whole they are, and nothing is logged.
    """

    def __init__(self, every: int, update_norm: bool) -> None:
        self.every = every
        self.update_norm = update_norm
        self.before: list[Tensor] = []

    def after_train_batch(self, state: State, logger: Logger) -> None:
        if self.update_norm and self._is_due(state, int(state.timestamp.batch) + 1):
            self.before = [weight.detach().clone() for weight in _trained(state)]

    def batch_end(self, state: State, logger: Logger) -> None:
        if not self._is_due(state, int(state.timestamp.batch)):
            return
        weights = _trained(state)
        norms = {"l2_norm/param/global": global_norm(weights)}
        if self.before:
            with torch.no_grad():
                for old, new in zip(self.before, weights, strict=True):
                    old.sub_(new)
            norms["l2_norm/update/global"] = global_norm(self.before)
            self.before = []
        logger.log_metrics({name: float(norm) for name, norm in norms.items()})

    def _is_due(self, state: State, batch: int) -> bool:
        return batch % self.every == 0 and state.fsdp_config_version != _FSDP1


def _trained(state: State) -> list[Tensor]:
    return [weight.detach() for weight in state.model.parameters() if weight.requires_grad]
