"""Look at the gradients once, before every step: clip them, or skip the step that would spoil the weights.

A NaN would not even show: Lion turns it into a step of 0, and its momentum remembers it for good.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from composer import Callback, Logger, State
from composer.utils import dist
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel

from codelm.config.training.callbacks import NanGuardSection
from codelm.config.training.optim import GradientClippingSection
from codelm.errors import CodelmError
from codelm.train.optim.gradients import clip_norm, clip_value, global_norm, gradients_of

log = logging.getLogger(__name__)

SKIPPED_METRIC = "nan_guard/skipped_steps"
NORM_METRIC = "l2_norm/grad/global"
"""Before clipping."""


class GradientGuard(Callback):
    """Clips gradients; skips the step of a batch whose loss or gradient is not finite on any rank, and counts.

    A skipped step leaves weights and optimizer as they were, to the bit; time goes on, and with it data and schedule.
    """

    def __init__(
        self, section: NanGuardSection, clipping: GradientClippingSection | None, save: Callable[[State], Any]
    ) -> None:
        """`save`: writes a checkpoint of this moment, and returns when it is there; every rank calls it."""
        self.max_skipped_steps = section.max_skipped_steps
        self.clipping = clipping
        self.save = save
        self.losses: list[Tensor] = []
        self.skipped = self.in_a_row = 0

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]

    def before_train_batch(self, state: State, logger: Logger) -> None:
        self.losses = []

    def after_loss(self, state: State, logger: Logger) -> None:
        # Those of all microbatches; afterwards the state holds the last one's alone.
        if isinstance(state.loss, Tensor):
            self.losses.append(state.loss.detach())

    def after_train_batch(self, state: State, logger: Logger) -> None:
        gradients = gradients_of(state.model.parameters())
        norm, clipped = self._norm(state, gradients)
        loss = torch.stack(self.losses).double().sum() if self.losses else norm.new_zeros(())
        bad = (~(norm.isfinite() & loss.isfinite())).to(torch.uint8).reshape(1)
        dist.all_reduce(bad, reduce_operation="MAX")
        # One transfer for both: each makes the processor wait for the GPU.
        skip, length = torch.cat([bad.double(), norm.reshape(1)]).tolist()
        if skip:
            self._skip(state, logger)
            return
        self.in_a_row = 0
        logger.log_metrics({NORM_METRIC: length})
        if self.clipping is None or clipped:
            return
        if self.clipping.clipping_type == "norm":
            clip_norm(gradients, length, self.clipping.clipping_threshold)
        else:
            clip_value(gradients, self.clipping.clipping_threshold)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Stop when too many steps in a row were skipped.

        Raises:
            CodelmError: with the checkpoint, which was saved just now.
        """
        count = self.in_a_row
        if count <= self.max_skipped_steps:
            return
        # Whoever goes on from the checkpoint has looked into it.
        self.in_a_row = 0
        self.save(state)
        last = int(state.timestamp.batch)
        batches = f"batch {last}" if count == 1 else f"all of the batches {last - count + 1} to {last}"
        raise CodelmError(
            f"the loss or a gradient was NaN or infinite in {batches}; their steps were skipped and the"
            f" checkpoint of batch {last} is good: lower optimizer.lr, lengthen scheduler.t_warmup or look at the data,"
            " and run the same command again to go on behind them"
        )

    def _norm(self, state: State, gradients: list[Tensor]) -> tuple[Tensor, bool]:
        """The global norm, and whether measuring it has clipped already, as FSDP1 does."""
        if state.fsdp_config_version != 1:
            return global_norm(gradients), False
        roots = [m for m in state.model.modules() if isinstance(m, FullyShardedDataParallel) and m.check_is_root()]
        by_norm = self.clipping is not None and self.clipping.clipping_type == "norm"
        threshold = self.clipping.clipping_threshold if self.clipping is not None and by_norm else float("inf")
        norms = [root.clip_grad_norm_(threshold).double() for root in roots]
        return torch.stack(norms).square().sum().sqrt(), by_norm

    def _skip(self, state: State, logger: Logger) -> None:
        # torch's optimizers and ours leave a parameter without a gradient alone: no step, no decay, no momentum.
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self.skipped += 1
        self.in_a_row += 1
        logger.log_metrics({SKIPPED_METRIC: self.skipped})
        log.warning(
            "batch %d: the loss or a gradient is NaN or infinite; its step is skipped (%d in a row)",
            int(state.timestamp.batch) + 1,
            self.in_a_row,
        )
