"""The norms of MPT: layer norm and RMS norm, each also in the autocast type ("low precision")."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Norm(nn.Module):
    """Layer norm or RMS norm over the last dimension.

    Under autocast the low-precision forms compute in the autocast type, as MPT does; the others in fp32.

    Args:
        norm_type: `layernorm`, `rmsnorm`, or one of them behind `low_precision_`.
        bias: only layer norms have one.
    """

    def __init__(self, norm_type: str, width: int, epsilon: float, bias: bool) -> None:
        super().__init__()
        self.low_precision = norm_type.startswith("low_precision_")
        self.rms = norm_type.endswith("rmsnorm")
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias and not self.rms else None

    def forward(self, x: Tensor) -> Tensor:
        """`(…, width)`."""
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return self._norm(x, self.weight, self.bias)
        dtype = torch.get_autocast_dtype(device) if self.low_precision else torch.float32
        bias = None if self.bias is None else self.bias.to(dtype)
        with torch.autocast(device, enabled=False):
            normed = self._norm(x.to(dtype), self.weight.to(dtype), bias)
        return normed.to(x.dtype) if self.rms else normed

    def _norm(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.rms:
            return F.rms_norm(x, weight.shape, weight, self.epsilon)
        return F.layer_norm(x, weight.shape, weight, bias, self.epsilon)
