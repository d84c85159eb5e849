"""Attention by torch's compiled FlexAttention, a Triton kernel: no bias in memory, hidden blocks are skipped."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from codelm.model.attention.pattern import Pattern, not_compiled


@dataclass(eq=False)
class Flex:
    """ALiBi as a function of a score's place, and the blocks that have anything to see; once for all layers."""

    block_mask: BlockMask
    score: Callable[..., Tensor] | None

    @not_compiled
    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """See `codelm.model.attention.Attend`; there is no dropout."""
        shared = query.shape[2] != key.shape[2]
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        kernel: Any = _compiled() if query.device.type == "cuda" else flex_attention
        out = kernel(
            query, key, value, score_mod=self.score, block_mask=self.block_mask, scale=scale, enable_gqa=shared
        )
        return out.transpose(1, 2)


def plan_flex(pattern: Pattern, device: torch.device) -> Flex:
    """What FlexAttention needs for a pass without a filled cache and without a mask of its own."""
    slopes, window, groups = pattern.slopes, pattern.window, pattern.groups

    def visible(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = key <= query
        if window is not None:
            seen = seen & (query - key <= window)
        if groups is not None:
            seen = seen & (groups[batch, query] == groups[batch, key])
        return seen

    def alibi(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert slopes is not None
        return score + slopes[head] * (key - query)

    batches = None if groups is None else groups.shape[0]
    block_mask = create_block_mask(visible, batches, None, pattern.queries, pattern.keys, device=str(device))
    return Flex(block_mask, None if slopes is None else alibi)


@functools.cache
def _compiled() -> Any:
    # From the second length on, one kernel for all: a kernel for each would take seconds for every new prompt, and past
    # torch's limit of eight versions the scores would be materialised instead.
    return torch.compile(flex_attention)
