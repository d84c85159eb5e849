"""Causal attention with ALiBi: slopes, the additive bias of a forward pass, and scaled dot-product attention.

ALiBi (Press et al., 2021) adds slope·(key position - query position) to each score. The bias is built query-relative
in fp32: the published row form, slope·(key position - last position), is the same to a softmax in exact arithmetic,
but rounds near neighbours to whole logits in bf16.
"""

import math

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


def attention_bias(slopes: Tensor, query_length: int, key_length: int, groups: Tensor | None = None) -> Tensor:
    """The bias added to the scores of every layer, fp32 `(batch or 1, n_heads, query_length, key_length)`.

    The queries are the last `query_length` of the `key_length` positions. Later keys are -inf. With `groups`, int
    `(batch, key_length)`, so are keys of another group: documents packed in one row, or padding (a group of its own,
    so that no row is wholly masked).
    """
    keys = torch.arange(key_length, device=slopes.device)
    distance = keys - keys[key_length - query_length :, None]
    allowed = distance <= 0
    bias = (slopes[:, None, None] * distance).masked_fill_(~allowed, -torch.inf)[None]
    if groups is None:
        return bias
    same = groups[:, None, key_length - query_length :, None] == groups[:, None, None, :]
    return bias.masked_fill(~same, -torch.inf)


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float, dropout: float) -> Tensor:
    """Attention output `(batch, n_heads, query_length, head_dim)` of tensors of that shape and a causal bias."""
    if query.device.type == "cpu" and query.shape == key.shape and query.numel() and not dropout:
        # The public function refuses a bias along with is_causal; the kernel takes both, and skips the later keys.
        return _cpu_kernel(query, key, value, 0.0, True, attn_mask=bias.to(query.dtype), scale=scale)[0]
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=bias.to(query.dtype), dropout_p=dropout, scale=scale
    )


_cpu_kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
