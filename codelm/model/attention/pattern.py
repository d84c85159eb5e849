"""Who looks at whom in a forward pass: causality, documents, a window, and ALiBi's distances; the same in all layers.

ALiBi (Press et al., 2021) adds slope·(key position - query position) to each score. It is computed query-relative, in
fp32. The published row form, slope·(key position - last position), is the same to a softmax in exact arithmetic, but
rounds near neighbours to whole logits in bf16.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def alibi_slopes(n_heads: int, alibi_bias_max: float = 8, device: torch.device | None = None) -> Tensor:
    """The slope of each head, fp32 `(n_heads,)`: powers of 2^(-alibi_bias_max/n), n the next power of two.

    For other numbers of heads MPT takes every second slope of that series first, then the ones between.
    """
    n = 2 ** math.ceil(math.log2(n_heads))
    slopes = 2.0 ** (-torch.arange(1, n + 1, dtype=torch.float32, device=device) * (alibi_bias_max / n))
    if n != n_heads:
        slopes = torch.cat([slopes[1::2], slopes[::2]])[:n_heads]
    return slopes


@dataclass(frozen=True)
class Pattern:
    """Which keys each query sees, and how far away they are."""

    slopes: Tensor | None
    """fp32 `(n_heads,)`; None without ALiBi."""
    first: int
    """Position of the first query among the keys: how many tokens the cache held."""
    queries: int
    keys: int
    """More than first + queries where a cache of fixed size has room left; causality hides it."""
    groups: Tensor | None = None
    """int `(batch, keys)`; keys of another group are hidden: other documents of the row, or padding, which is a group
    of its own, so that no query is left without a key."""
    window: int | None = None
    """How many keys before its own a query sees; None for all."""
    mask: Tensor | None = None
    """`(batch, 1 or n_heads, queries, keys)`, bool (true: visible) or added to the scores."""

    @property
    def whole(self) -> bool:
        """Queries and keys are the same tokens: nothing was cached before."""
        return self.queries == self.keys

    def query_groups(self) -> Tensor | None:
        """int `(batch, queries)`."""
        return None if self.groups is None else self.groups[:, self.first : self.first + self.queries]


def distances(queries: int, keys: int, first: int, device: torch.device) -> Tensor:
    """Key position less query position, int64 `(queries, keys)`; above 0 for later keys."""
    return torch.arange(keys, device=device) - torch.arange(first, first + queries, device=device)[:, None]


def not_compiled(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keep a plan's `attend` out of compiled blocks, which would be compiled anew for every plan.

    For the same reason the plans are dataclasses that are not frozen: those Dynamo takes apart and looks into.
    """
    disable: Any = torch.compiler.disable
    return disable(attend)
