"""Attention to the letter of Replit's published code: ALiBi in row form, everything in the type of the activations.

In fp32 it agrees with the others to rounding. In bf16 it does not: the bias of near neighbours is off by whole logits.
It exists for checkpoints that were trained with those roundings.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from codelm.model.attention.pattern import Pattern, distances, not_compiled


@dataclass(eq=False)
class Legacy:
    """The bias, and which scores are overwritten."""

    bias: Tensor
    """`(1, n_heads, 1, keys)`."""
    hidden: Tensor
    """bool `(batch or 1, 1, queries, keys)`."""

    @not_compiled
    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """See `codelm.model.attention.Attend`."""
        if key.shape[2] != query.shape[2]:
            key, value = (tensor.repeat_interleave(query.shape[2] // tensor.shape[2], dim=2) for tensor in (key, value))
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        scores = query @ key.transpose(2, 3) * scale + self.bias
        weights = scores.masked_fill(self.hidden, torch.finfo(scores.dtype).min).softmax(-1)
        weights = torch.nn.functional.dropout(weights, dropout)
        return (weights.to(value.dtype) @ value).transpose(1, 2)


def plan_legacy(pattern: Pattern, device: torch.device, dtype: torch.dtype) -> Legacy:
    """The row form of a pattern: distances to the last key that is there, not to the query."""
    assert pattern.slopes is not None
    last = pattern.first + pattern.queries - 1
    row = (torch.arange(pattern.keys, device=device) - last).clamp(max=0) * pattern.slopes[:, None]
    distance = distances(pattern.queries, pattern.keys, pattern.first, device)
    hidden = (distance > 0)[None, None]
    if pattern.window is not None:
        hidden = hidden | (distance < -pattern.window)
    groups = pattern.query_groups()
    if groups is not None and pattern.groups is not None:
        hidden = hidden | (groups[:, None, :, None] != pattern.groups[:, None, None, :])
    if pattern.mask is not None:
        hidden = hidden | (~pattern.mask if pattern.mask.dtype == torch.bool else pattern.mask < 0)
    return Legacy(row[None, :, None].to(dtype), hidden)
