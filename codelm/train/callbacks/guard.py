"""Look at the gradients once, before every step: clip them, or skip the step that would spoil the weights.

A NaN would not even show: Lion turns it into a step of 0, and its momentum remembers it for good.

Steps may be skipped because the data is bad, or because a step before ruined the weights. Weights are trusted once a
batch has given a finite loss and gradient with them; a checkpoint newer than those pushes out none of the trusted ones.
"""

import logging
from typing import Any, NoReturn

import torch
from composer import Callback, Logger, State
from composer.core.precision import get_precision_context
from composer.utils import dist
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel

from codelm.config.training.callbacks import NanGuardSection
from codelm.config.training.optim import GradientClippingSection
from codelm.errors import CodelmError
from codelm.train.checkpoints.save import CheckpointSaver, ends
from codelm.train.checkpoints.weights import unwrapped
from codelm.train.composer_model import Batch
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
        self, section: NanGuardSection, clipping: GradientClippingSection | None, saver: CheckpointSaver
    ) -> None:
        """`saver`: learns which weights are good; writes the checkpoint of the end, or goes back to a good one."""
        self.max_skipped_steps = section.max_skipped_steps
        self.clipping = clipping
        self.saver = saver
        self.losses: list[Tensor] = []
        self.batches: list[Batch] = []
        """The microbatches of this batch."""
        self.finite: list[Batch] = []
        """Those of the last batch whose step was made."""
        self.skipped = self.in_a_row = 0
        self.trained_before = False
        """A step was made by the process that skipped the first in a row, so that the machine is not to blame."""

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped, "in_a_row": self.in_a_row, "trained_before": self.trained_before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.skipped, self.in_a_row = state["skipped"], state["in_a_row"]
        self.trained_before = state.get("trained_before", False)

    def fit_start(self, state: State, logger: Logger) -> None:
        # The batch before those in a row was trained on with the weights of the one before that.
        self.saver.trust(max(0, int(state.timestamp.batch) - self.in_a_row - 1))

    def before_train_batch(self, state: State, logger: Logger) -> None:
        self.losses, self.batches = [], []

    def after_loss(self, state: State, logger: Logger) -> None:
        # Those of all microbatches; afterwards the state holds the last one's alone.
        if isinstance(state.loss, Tensor):
            self.losses.append(state.loss.detach())
            self.batches.append(state.batch)

    def after_train_batch(self, state: State, logger: Logger) -> None:
        gradients = gradients_of(state.model.parameters())
        norm, clipped = self._norm(state, gradients)
        # One transfer for both: each makes the processor wait for the GPU.
        skip, length = torch.cat([_bad_anywhere(norm, self.losses).double(), norm.reshape(1)]).tolist()
        if skip:
            self._skip(state, logger)
            return
        self.in_a_row = 0
        self.finite = self.batches
        # This batch, not counted yet, has been trained on with the weights of the one before.
        self.saver.trust(int(state.timestamp.batch))
        logger.log_metrics({NORM_METRIC: length})
        if self.clipping is None or clipped:
            return
        if self.clipping.clipping_type == "norm":
            clip_norm(gradients, length, self.clipping.clipping_threshold)
        else:
            clip_value(gradients, self.clipping.clipping_threshold)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Stop when too many steps in a row were skipped, or training would end with ruined weights.

        Raises:
            CodelmError: with the checkpoint from which the same command goes on.
        """
        count, batch = self.in_a_row, int(state.timestamp.batch)
        too_many = count > self.max_skipped_steps
        if not too_many and not ends(state):
            return
        good = self._are_weights_good(state) if count else True
        if good:
            self.saver.trust(batch)
        if not too_many and good is not False:
            return
        which = f"batch {batch}" if count == 1 else f"all of the batches {batch - count + 1} to {batch}"
        what = f"the loss or a gradient was NaN or infinite in {which}; their steps were skipped"
        if good:
            # Whoever goes on from the checkpoint has looked into it.
            self.in_a_row = 0
            self.saver.save_last(state)
            raise CodelmError(
                f"{what} and the checkpoint of batch {batch} is good, for its weights still give a finite loss on the"
                " data before: look at the data of those batches, or lower optimizer.lr or lengthen scheduler.t_warmup,"
                " and run the same command again to go on behind them"
            )
        if good is None and not self.trained_before:
            self.saver.finish()
            raise CodelmError(
                f"{what}, and none was made since the run was resumed: if neither data, precision nor machine has"
                f" changed, the step of batch {batch - count} has ruined the weights; then remove the checkpoints from"
                " that batch on, lower optimizer.lr, and run the same command again to go on from the one before"
            )
        self._go_back(what, batch - count)

    def _go_back(self, what: str, ruined_by: int) -> NoReturn:
        checkpoint = self.saver.fall_back()
        where = "start afresh, since no checkpoint is from before"
        if checkpoint is not None:
            where = f"go on from {checkpoint}, the last checkpoint whose weights have given a finite loss"
        raise CodelmError(
            f"{what}, and after the step of batch {ruined_by} the weights have given no finite loss: lower optimizer.lr"
            f" or lengthen scheduler.t_warmup, and run the same command again to {where}"
        )

    def _are_weights_good(self, state: State) -> bool | None:
        """Whether data that gave a finite loss and gradient still does; None where this process has seen none.

        Every rank must call. The weights are those of the last step that was made, whatever was skipped since.
        """
        if not self.finite:
            return None
        batch = max(self.finite, key=lambda microbatch: int((microbatch["labels"] != -100).sum()))
        self._throw_away(state)
        with get_precision_context(state.precision, state.precision_config):
            loss = unwrapped(state.model).loss(state.model(batch), batch)
        loss.backward()
        norm, _ = self._norm(state, gradients_of(state.model.parameters()))
        self._throw_away(state)
        return not bool(_bad_anywhere(norm, [loss.detach()]))

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
        self._throw_away(state)
        if not self.in_a_row:
            self.trained_before = bool(self.finite)
        self.skipped += 1
        self.in_a_row += 1
        logger.log_metrics({SKIPPED_METRIC: self.skipped})
        log.warning(
            "batch %d: the loss or a gradient is NaN or infinite; its step is skipped (%d in a row)",
            int(state.timestamp.batch) + 1,
            self.in_a_row,
        )

    @staticmethod
    def _throw_away(state: State) -> None:
        for optimizer in state.optimizers:
            optimizer.zero_grad(set_to_none=True)


def _bad_anywhere(norm: Tensor, losses: list[Tensor]) -> Tensor:
    """1 where a loss or the gradients' norm is not finite on any rank; every rank must call."""
    loss = torch.stack(losses).double().sum() if losses else norm.new_zeros(())
    bad = (~(norm.isfinite() & loss.isfinite())).to(torch.uint8).reshape(1)
    dist.all_reduce(bad, reduce_operation="MAX")
    return bad
