"""Two things that make a model decode faster on a CPU, done for the time of a generation and undone after it.

- The output layer, by far the largest matrix of a small model, is multiplied in pieces that fit the cache: BLAS copies
  a whole matrix aside first, which for a handful of rows takes longer than the multiplication.
- Denormal numbers count as zero: softmax makes them from ALiBi's far keys, and processors handle them slowly.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PIECE_ELEMENTS = 1 << 19
_FEWEST_PIECES = 4
_MOST_ROWS = 64


@contextmanager
def decoding_fast_on_cpu(model: nn.Module) -> Iterator[None]:
    """Both, if the model is on a CPU."""
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    with _in_pieces(model), _flushing_denormals():
        yield


@contextmanager
def _in_pieces(model: nn.Module) -> Iterator[None]:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # pyright: ignore
    # A subclass, such as a quantised layer, or one that somebody has wrapped already, computes something else.
    plain = type(head) is nn.Linear and "forward" not in vars(head)
    big = (
        isinstance(head, nn.Linear)
        and plain
        and head.weight.dtype == torch.float32
        and head.weight.numel() >= _FEWEST_PIECES * _PIECE_ELEMENTS
    )
    if not isinstance(head, nn.Linear) or not big:
        yield
        return
    size = max(1, _PIECE_ELEMENTS // head.in_features)
    weights = head.weight.split(size)
    biases = head.bias.split(size) if head.bias is not None else [None] * len(weights)

    def forward(input: Tensor) -> Tensor:
        if input.numel() > _MOST_ROWS * input.shape[-1]:
            return F.linear(input, head.weight, head.bias)
        return torch.cat([F.linear(input, weight, bias) for weight, bias in zip(weights, biases, strict=True)], dim=-1)

    head.forward = forward
    try:
        yield
    finally:
        del head.forward


@contextmanager
def _flushing_denormals() -> Iterator[None]:
    # There is no other way to ask for the present state.
    before = float(torch.tensor(1e-39) * 1.0) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
