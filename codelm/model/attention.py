"""Causal attention with ALiBi: slopes, the additive bias of a forward pass, and scaled dot-product attention.

ALiBi (Press et al., 2021) adds slope·(key position - query position) to each score. The bias is built query-relative
in fp32: the published row form, slope·(key position - last position), is the same to a softmax in exact arithmetic,
but rounds near neighbours to whole logits in bf16.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
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
class Bias:
    """What a forward pass adds to the scores of every layer."""

    scores: Tensor
    """`(batch or 1, n_heads, query_length, key_length)`: ALiBi, and -inf where a query may not look."""
    lengths: list[int] | None = None
    """When set, the rows laid end to end fall into pieces of these lengths, each seeing itself alone; `scores` is
    `(1, n_heads, longest, longest)` then, and holds for every piece, since ALiBi knows only distances."""


def attention_bias(
    slopes: Tensor,
    query_length: int,
    key_length: int,
    groups: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> Bias:
    """The bias for queries that are the last `query_length` of `key_length` positions; later keys are hidden.

    It is computed in fp32 and rounded to `dtype`, that of the queries, once for all layers.

    With `groups`, int `(batch, key_length)`, so are keys of another group: documents packed in one row, or padding (a
    group of its own, so that no query is left without a key).
    """
    if groups is None:
        return Bias(_relative(slopes, query_length, key_length).to(dtype))
    if groups.device.type == "cpu" and query_length == key_length:
        lengths = _lengths(groups)
        if lengths is not None:
            longest = max(lengths)
            return Bias(_relative(slopes, longest, longest).to(dtype), lengths)
    same = groups[:, None, key_length - query_length :, None] == groups[:, None, None, :]
    return Bias(_relative(slopes, query_length, key_length).to(dtype).masked_fill(~same, -torch.inf))


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Bias, scale: float, dropout: float) -> Tensor:
    """Attention output `(batch, query_length, n_heads, head_dim)`.

    Args:
        query: `(batch, query_length, n_heads, head_dim)`; key and value: `(batch, key_length, n_heads, head_dim)`.
    """
    if bias.lengths is None:
        return _attend(query, key, value, bias.scores, scale, dropout)
    pieces = [tensor.flatten(0, 1).split(bias.lengths) for tensor in (query, key, value)]
    outputs = [
        _attend(q[None], k[None], v[None], bias.scores[:, :, : len(q), : len(q)], scale, dropout)[0]
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


def _relative(slopes: Tensor, query_length: int, key_length: int) -> Tensor:
    keys = torch.arange(key_length, device=slopes.device)
    distance = keys - keys[key_length - query_length :, None]
    return (slopes[:, None, None] * distance).masked_fill_(distance > 0, -torch.inf)[None]


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
