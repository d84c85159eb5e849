"""Cross-entropy of the output layer, in chunks, so that the `(batch·seq, vocab)` logits are never whole in memory.

The gradient of a chunk's logits follows from the same softmax as its loss, so both are computed at once and the chunk
is thrown away: three matrix products in all, as in the plain form, without its full-size copies.

There are three ways, of which `choose` tries another:

- `chunked`, here: the default.
- `liger`: liger-kernel's, the same idea with the softmax in one Triton kernel; taken on CUDA where it is installed.
- `torch`: PyTorch's own, from 2.13. Its memory is bounded too, but on CPU it takes 1.7 times as long as `chunked`
  (2,048 tokens, width 384, vocabulary 32,768, fp32, one thread), so it is taken only when asked for.
"""

import importlib.util
import logging
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from codelm.errors import ConfigError

log = logging.getLogger(__name__)

IGNORED = -100
_CHUNK_ELEMENTS = 2**22
# A small product leaves most of a GPU idle; this is a quarter of a gigabyte of logits.
_CHUNK_ELEMENTS_CUDA = 2**26
_chosen: str | None = None
_observer: Callable[[Tensor, Tensor], None] | None = None
_said: set[str] = set()


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
    return _WAYS[_chosen or default_way(hidden.device)](hidden, weight, targets)


def choose(way: str | None) -> None:
    """Compute every loss from here on in this way; None returns to the default.

    Raises:
        ConfigError: it is none of the three, or what it needs is not installed.
    """
    global _chosen
    if way is not None and way not in _WAYS:
        raise ConfigError(f"there is no loss `{way}`; the ways are {', '.join(_WAYS)}")
    if way == "liger" and not _has_liger():
        raise ConfigError("the loss `liger` needs the package liger-kernel, which is not installed; use chunked")
    if way == "torch" and not hasattr(F, "linear_cross_entropy"):
        raise ConfigError(f"the loss `torch` needs torch 2.13, and {torch.__version__} is installed; use chunked")
    _chosen = way


def observe(observer: Callable[[Tensor, Tensor], None] | None) -> None:
    """Show every loss that is computed `chunked` from here on to a function; None ends it.

    It gets the loss of each row in nats, fp32 `(n,)`, 0 where nothing is predicted, and bool `(n,)`, whether it is.
    """
    global _observer
    _observer = observer


def default_way(device: torch.device) -> str:
    """The way taken on a device when none was chosen."""
    way = "liger" if device.type == "cuda" and _has_liger() else "chunked"
    if way == "liger" and way not in _said:
        _said.add(way)
        log.info("the loss is computed by liger-kernel")
    return way


def _has_liger() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def _chunked(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    return _LinearCrossEntropy.apply(hidden, weight, targets, torch.is_grad_enabled())


def _liger(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    from liger_kernel.transformers.functional import (  # pyright: ignore[reportMissingImports]
        liger_fused_linear_cross_entropy,
    )

    # Its own accumulator of the weight's gradient has the weight's type, in which many small sums are lost.
    return liger_fused_linear_cross_entropy(
        hidden, weight, targets, ignore_index=IGNORED, accum_dtype=torch.float32
    ).float()


def _torch(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    counted = (targets != IGNORED).sum()
    options = torch.nn.LinearCrossEntropyOptions()  # pyright: ignore[reportAttributeAccessIssue]
    matrix = weight.to(hidden.dtype)
    total = F.linear_cross_entropy(  # pyright: ignore[reportAttributeAccessIssue]
        hidden, matrix, targets, reduction="sum", ignore_index=IGNORED, options=options
    )
    return total.float() / counted.clamp(min=1)


_WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "chunked": _chunked,
    "liger": _liger,
    "torch": _torch,
}


def chunk_elements(device_type: str) -> int:
    """Logits that are computed at once."""
    return _CHUNK_ELEMENTS_CUDA if device_type == "cuda" else _CHUNK_ELEMENTS


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
    observed = hidden.new_zeros(len(hidden), dtype=torch.float32) if _observer is not None else None
    rows = max(1, chunk_elements(hidden.device.type) // weight.shape[0])
    for start in range(0, hidden.shape[0], rows):
        chunk = slice(start, start + rows)
        logits = (hidden[chunk] @ matrix.T).float()
        highest = logits.amax(dim=-1, keepdim=True)
        predicted = logits.gather(1, index[chunk])
        powers = logits.sub_(highest).exp_()
        total = powers.sum(dim=-1, keepdim=True)
        losses = total.log() + highest - predicted
        loss += (losses * share[chunk]).sum()
        if observed is not None:
            observed[chunk] = losses.squeeze(1).masked_fill(~counted[chunk], 0.0)
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
    if _observer is not None and observed is not None:
        _observer(observed, counted)
    return loss
