"""Attention by the package flash-attn: ALiBi by slopes, packed documents and padding as sequences of their own.

The package has no wheels for the default stack. What was run, and where, is said in docs/model.md; where the package is
absent, the arguments are tested against a plain implementation of its documented functions.
"""

import importlib.metadata
import importlib.util
from dataclasses import dataclass

import torch
from packaging import version
from torch import Tensor

from codelm.errors import ConfigError
from codelm.model.attention.pattern import Pattern, not_compiled

OLDEST = "2.4"
"""The first version that takes slopes."""


@dataclass(eq=False)
class Flash:
    """Where each sequence begins, once for all layers."""

    slopes: Tensor | None
    window: int | None
    starts: Tensor | None
    """int32 `(sequences + 1,)`: the rows laid end to end fall into sequences that begin here; None: each row is one."""
    longest: int

    @not_compiled
    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """See `codelm.model.attention.Attend`; fp16 and bf16 only."""
        from flash_attn import flash_attn_func, flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

        if query.dtype not in (torch.float16, torch.bfloat16):
            raise ConfigError(
                f"attn_impl flash computes in bf16 or fp16, and the model is in {query.dtype}; "
                "use precision amp_bf16, or attn_impl: torch"
            )
        options = {
            "dropout_p": dropout,
            "softmax_scale": scale,
            "causal": True,
            "window_size": (-1 if self.window is None else self.window, 0 if self.window is not None else -1),
            "alibi_slopes": self.slopes,
        }
        if self.starts is None:
            return flash_attn_func(query, key, value, **options)
        flat = (tensor.flatten(0, 1) for tensor in (query, key, value))
        out = flash_attn_varlen_func(*flat, self.starts, self.starts, self.longest, self.longest, **options)
        return out.view(query.shape)


def plan_flash(pattern: Pattern) -> Flash:
    """What flash-attn needs for a pass without a filled cache and without a mask of its own.

    Raises:
        ValueError: a document comes in parts.
    """
    if pattern.groups is None:
        return Flash(pattern.slopes, pattern.window, None, pattern.queries)
    starts = sequence_starts(pattern.groups)
    return Flash(pattern.slopes, pattern.window, starts, int(starts.diff().max()))


def sequence_starts(groups: Tensor) -> Tensor:
    """Where runs of equal groups `(batch, seq)` begin when rows are laid end to end, and the end: int32."""
    begins = torch.ones_like(groups, dtype=torch.bool)
    begins[:, 1:] = groups[:, 1:] != groups[:, :-1]
    ordered = groups.sort(dim=1).values
    distinct = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1)
    if not torch.equal(begins.sum(dim=1), distinct):
        raise ValueError("sequence_id gives a document in parts, which attn_impl flash cannot compute; use torch")
    places = begins.flatten().nonzero().squeeze(1)
    return torch.cat([places, places.new_tensor([groups.numel()])]).int()


def check_installed() -> None:
    """Refuse `attn_impl: flash` where the package is absent or too old.

    Raises:
        ConfigError: with the remedy.
    """
    if importlib.util.find_spec("flash_attn") is None:
        raise ConfigError(
            f"attn_impl flash needs the package flash-attn >= {OLDEST}, which is not installed; "
            "run `pip install flash-attn --no-build-isolation`, or use attn_impl: torch or triton"
        )
    found = importlib.metadata.version("flash-attn")
    if version.parse(found) < version.parse(OLDEST):
        raise ConfigError(
            f"attn_impl flash needs flash-attn >= {OLDEST} for ALiBi, and {found} is installed; upgrade it"
        )
