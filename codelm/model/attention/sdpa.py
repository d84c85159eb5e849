"""Attention by torch's scaled_dot_product_attention with an additive bias: on every device, with everything."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from codelm.model.attention.pattern import Pattern, distances, not_compiled


@dataclass(eq=False)
class Sdpa:
    """Scores and their bias, computed once for all layers."""

    scores: Tensor
    """`(batch or 1, n_heads or 1, queries, keys)`: ALiBi, and -inf where a query may not look."""
    lengths: list[int] | None = None
    """When set, the rows laid end to end fall into pieces of these lengths, each seeing itself alone; `scores` is
    `(1, n_heads, longest, longest)` then, and holds for every piece, since ALiBi knows only distances."""

    @not_compiled
    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """See `codelm.model.attention.Attend`."""
        if key.shape[2] != query.shape[2]:
            key, value = (_repeated(tensor, query.shape[2]) for tensor in (key, value))
        if self.lengths is None:
            return _attend(query, key, value, self.scores, scale, dropout)
        return _attend_pieces(query, key, value, self.scores, self.lengths, scale, dropout)


def plan_sdpa(pattern: Pattern, device: torch.device, dtype: torch.dtype) -> Sdpa:
    """The bias of a forward pass: computed in fp32 and rounded to `dtype`, that of the queries."""
    groups = pattern.groups
    if groups is not None and pattern.whole and pattern.mask is None and device.type == "cpu":
        lengths = _lengths(groups)
        if lengths is not None:
            longest = max(lengths)
            return Sdpa(_bias(pattern, longest, longest, 0, device).to(dtype), lengths)
    scores = _bias(pattern, pattern.queries, pattern.keys, pattern.first, device).to(dtype)
    if groups is not None:
        same = pattern.query_groups()[:, None, :, None] == groups[:, None, None, :]  # pyright: ignore[reportOptionalSubscript]
        scores = scores.masked_fill(~same, -torch.inf)
    if pattern.mask is not None:
        visible = pattern.mask.dtype == torch.bool
        scores = scores.masked_fill(~pattern.mask, -torch.inf) if visible else scores + pattern.mask.to(dtype)
        # A padding query may be left without a key; it gives zeros instead of NaN, which would spread.
        scores = scores.clamp(min=torch.finfo(dtype).min)
    return Sdpa(scores)


def _bias(pattern: Pattern, queries: int, keys: int, first: int, device: torch.device) -> Tensor:
    """ALiBi, causality and the window, fp32 `(1, n_heads or 1, queries, keys)`."""
    distance = distances(queries, keys, first, device)
    hidden = distance > 0
    if pattern.window is not None:
        hidden = hidden | (distance < -pattern.window)
    if pattern.slopes is None:
        bias = torch.zeros(1, queries, keys, device=device)
    else:
        bias = pattern.slopes[:, None, None] * distance
    return bias.masked_fill_(hidden, -torch.inf)[None]


def _repeated(tensor: Tensor, n_heads: int) -> Tensor:
    """Keys or values `(batch, keys, kv_n_heads, head_dim)` for every head that shares them."""
    return tensor.repeat_interleave(n_heads // tensor.shape[2], dim=2)


def _attend_pieces(
    query: Tensor, key: Tensor, value: Tensor, scores: Tensor, lengths: list[int], scale: float, dropout: float
) -> Tensor:
    pieces = [tensor.flatten(0, 1).split(lengths) for tensor in (query, key, value)]
    outputs = [
        _attend(q[None], k[None], v[None], scores[:, :, : len(q), : len(q)], scale, dropout)[0]
        for q, k, v in zip(*pieces, strict=True)
    ]
    return torch.cat(outputs).view(query.shape)


def _attend(query: Tensor, key: Tensor, value: Tensor, scores: Tensor, scale: float, dropout: float) -> Tensor:
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if query.device.type == "cpu" and query.shape == key.shape and query.numel() and not dropout:
        # The public function refuses a bias along with is_causal; the kernel takes both, and skips the later keys.
        out = _cpu_kernel(query, key, value, 0.0, True, attn_mask=scores, scale=scale)[0]
    else:
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=scores, dropout_p=dropout, scale=scale)
    return out.transpose(1, 2)


_cpu_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

_SHORTEST_ON_AVERAGE = 16
"""Pieces shorter than this cost more in calls than they save in scores."""


def _lengths(groups: Tensor) -> list[int] | None:
    """The lengths of the runs of equal groups, row after row; None when a group comes in parts, or runs are short."""
    starts = torch.ones_like(groups, dtype=torch.bool)
    starts[:, 1:] = groups[:, 1:] != groups[:, :-1]
    ordered = groups.sort(dim=1).values
    distinct = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1)
    positions = starts.flatten().nonzero().squeeze(1)
    if not torch.equal(starts.sum(dim=1), distinct) or len(positions) * _SHORTEST_ON_AVERAGE > groups.numel():
        return None
    return torch.diff(positions, append=positions.new_tensor([groups.numel()])).tolist()
