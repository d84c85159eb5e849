"""Attention with ALiBi, one function by several back ends: what a pass needs is planned once, every layer uses it.

`torch` works everywhere. `triton` and `flash` are for CUDA; they take the passes that cost most, training and the
prompt, and leave single tokens after a cache, and masks of other shapes, to `torch`.
"""

import logging
from typing import Protocol

import torch
from torch import Tensor

from codelm.model.attention.flash import check_installed, plan_flash
from codelm.model.attention.flex import plan_flex
from codelm.model.attention.legacy import plan_legacy
from codelm.model.attention.pattern import Pattern, alibi_slopes
from codelm.model.attention.sdpa import plan_sdpa

__all__ = ["Attend", "Pattern", "alibi_slopes", "check_installed", "plan_attention"]

log = logging.getLogger(__name__)


class Attend(Protocol):
    """A planned pass."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """Attention output `(batch, queries, n_heads, head_dim)`.

        Args:
            query: `(batch, queries, n_heads, head_dim)`; key and value: `(batch, keys, kv_n_heads, head_dim)`.
            scale: of the products of queries and keys.
            dropout: probability with which a weight is dropped.
        """
        ...


def plan_attention(impl: str, alibi_form: str, pattern: Pattern, device: torch.device, dtype: torch.dtype) -> Attend:
    """Plan a pass.

    Args:
        impl: `torch`, `triton` or `flash`; the latter two become `torch` on the CPU.
        alibi_form: `relative` or `legacy`.
        dtype: of queries, keys and values.
    """
    if alibi_form == "legacy":
        return plan_legacy(pattern, device, dtype)
    if impl != "torch" and _on_cpu(device):
        _say_once(f"attn_impl {impl} needs a CUDA device; on the CPU attention is computed by attn_impl torch")
        impl = "torch"
    if impl == "torch" or not pattern.whole or pattern.mask is not None:
        return plan_sdpa(pattern, device, dtype)
    return plan_flash(pattern) if impl == "flash" else plan_flex(pattern, device)


def _on_cpu(device: torch.device) -> bool:
    return device.type == "cpu"


_said: set[str] = set()


def _say_once(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        log.warning(sentence)
