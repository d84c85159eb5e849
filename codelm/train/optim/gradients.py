"""Gradients over all ranks: measured once, then clipped or thrown away; plain, or sharded as FSDP2 shards them."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Partial, Replicate

from codelm.train.optim.shards import local

# Of torch.nn.utils.clip_grad_norm_.
_EPSILON = 1e-6


def gradients_of(parameters: Iterable[Tensor]) -> list[Tensor]:
    """The gradients that there are."""
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def global_norm(gradients: Sequence[Tensor]) -> Tensor:
    """The length of all gradients as one vector: float64, without dimensions, the same on every rank.

    Every rank must call. A shard counts once, and so does a tensor that every rank holds whole. It is NaN or infinite
    as soon as one element of one rank is.
    """
    layouts: dict[Any, list[Tensor]] = {}
    for gradient in gradients:
        layout = (gradient.device_mesh, gradient.placements) if isinstance(gradient, DTensor) else None
        layouts.setdefault(layout, []).append(local(gradient))
    total = torch.zeros((), dtype=torch.float64, device=gradients[0].device if gradients else None)
    for layout, tensors in layouts.items():
        # Small parameters leave some ranks without a share.
        filled = [tensor for tensor in tensors if tensor.numel()]
        norms = torch._foreach_norm(filled, dtype=torch.float32) if filled else [total.new_zeros(())]
        squares = torch.stack([*norms]).double().square().sum()
        if layout is not None:
            mesh, placements = layout
            sums = [Partial() if placement.is_shard() else Replicate() for placement in placements]
            squares = DTensor.from_local(squares, mesh, sums, run_check=False).full_tensor()
        total = total + squares
    return total.sqrt()


def clip_norm(gradients: Sequence[Tensor], norm: float, threshold: float) -> None:
    """Shorten gradients of a known global norm to the threshold; shorter ones stay as they are."""
    if norm > threshold:
        torch._foreach_mul_(_shards(gradients), threshold / (norm + _EPSILON))


def clip_value(gradients: Sequence[Tensor], threshold: float) -> None:
    """Bring every element into [-threshold, threshold]."""
    shards = _shards(gradients)
    if shards:
        torch._foreach_clamp_min_(shards, -threshold)
        torch._foreach_clamp_max_(shards, threshold)


def _shards(gradients: Sequence[Tensor]) -> list[Tensor]:
    return [local(gradient) for gradient in gradients]
