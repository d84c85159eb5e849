"""Cross-entropy of the output layer, in chunks, so that the `(batch·seq, vocab)` logits are never whole in memory.

The gradient of a chunk's logits follows from the same softmax as its loss, so both are computed at once and the chunk
is thrown away: three matrix products in all, as in the plain form, without its full-size copies.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

IGNORED = -100
_CHUNK_ELEMENTS = 2**22


def shifted(labels: Tensor) -> Tensor:
    """The target of each position, `(batch, seq)`: the next label; nothing follows the last."""
    return F.pad(labels[:, 1:], (0, 1), value=IGNORED)


def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats over the targets that are not ignored; 0 when all are.

    Args:
        hidden: `(n, d_model)`.
        weight: the output layer's, `(vocab, d_model)`.
        targets: int64 `(n,)`, -100 where nothing is predicted.

    Returns:
        fp32 scalar. It can be backpropagated once.
    """
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    return _LinearCrossEntropy.apply(hidden, weight, targets, torch.is_grad_enabled())


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, with_grad: bool) -> Tensor:
        grad_hidden = torch.empty_like(hidden) if with_grad and ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight) if with_grad and ctx.needs_input_grad[1] else None
        with torch.autocast(hidden.device.type, enabled=False):
            loss = _loss_and_gradients(hidden, weight, targets, grad_hidden, grad_weight)
        ctx.gradients = (grad_hidden, grad_weight)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        if ctx.gradients is None:
            raise RuntimeError("the loss of linear_cross_entropy can be backpropagated only once")
        # In place: a second copy of the weight's gradient would cost as much memory as the chunks save.
        scaled = [None if gradient is None else gradient.mul_(grad_loss) for gradient in ctx.gradients]
        ctx.gradients = None
        return scaled[0], scaled[1], None, None


def _loss_and_gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, grad_hidden: Tensor | None, grad_weight: Tensor | None
) -> Tensor:
    matrix = weight.to(hidden.dtype)
    counted = targets != IGNORED
    share = (counted.float() / counted.sum().clamp(min=1))[:, None]
    index = targets.masked_fill(~counted, 0)[:, None]
    loss = hidden.new_zeros((), dtype=torch.float32)
    rows = max(1, _CHUNK_ELEMENTS // weight.shape[0])
    for start in range(0, hidden.shape[0], rows):
        chunk = slice(start, start + rows)
        logits = (hidden[chunk] @ matrix.T).float()
        highest = logits.amax(dim=-1, keepdim=True)
        predicted = logits.gather(1, index[chunk])
        powers = logits.sub_(highest).exp_()
        total = powers.sum(dim=-1, keepdim=True)
        loss += ((total.log() + highest - predicted) * share[chunk]).sum()
        if grad_hidden is None and grad_weight is None:
            continue
        gradient = powers.mul_(share[chunk] / total)
        gradient = gradient.scatter_add_(1, index[chunk], -share[chunk]).to(hidden.dtype)
        if grad_hidden is not None:
            torch.mm(gradient, matrix, out=grad_hidden[chunk])
        if grad_weight is not None:
            if grad_weight.dtype == gradient.dtype:
                grad_weight.addmm_(gradient.T, hidden[chunk])
            else:
                grad_weight += gradient.T @ hidden[chunk]
    return loss
