"""Stop before a non-finite loss or gradient reaches the weights; Lion would hide it, since sign(NaN) is 0."""

import torch
from composer import Callback, Logger, State
from composer.utils import dist
from torch.distributed.tensor import DTensor

from codelm.errors import CodelmError


class NonFiniteGuard(Callback):
    """Checked after the backward pass of every batch, on every rank, before the optimizer's step."""

    def after_train_batch(self, state: State, logger: Logger) -> None:
        gradients = [
            parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad
            for parameter in state.model.parameters()
            if parameter.grad is not None
        ]
        norms = torch.stack(torch._foreach_norm(gradients)) if gradients else torch.zeros(1)
        loss = state.loss if isinstance(state.loss, torch.Tensor) else torch.zeros(())
        finite = (torch.isfinite(norms).all() & torch.isfinite(loss.detach()).all().to(norms.device)).to(torch.uint8)
        dist.all_reduce(finite, reduce_operation="MIN")
        if not finite.item():
            batch = int(state.timestamp.batch)
            raise CodelmError(
                f"the loss or a gradient became NaN or infinite in batch {batch + 1}; the weights were not updated and"
                " the last checkpoint is good: lower optimizer.lr, lengthen scheduler.t_warmup, or look at the data"
            )
