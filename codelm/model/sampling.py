"""Choosing the next token: greedy, or drawn at a temperature from the most probable tokens.

Each row is decided by its own logits and its own random number, so its choice does not depend on its batch. The whole
vocabulary is never sorted unless a distribution is so flat that its nucleus needs it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codelm.errors import EvaluationError

_FIRST_CANDIDATES = 64


@dataclass(frozen=True)
class Sampling:
    """How to choose, in transformers' order: temperature, then top_k, then top_p of what top_k left.

    Attributes:
        temperature: 0 is greedy.
        top_p: draw from the smallest set of tokens that has at least this probability together.
        top_k: draw from so many tokens; 0 for all.

    Raises:
        EvaluationError: a value is out of range.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        # Written so that nan fails too.
        if not 0 <= self.temperature < float("inf"):
            raise EvaluationError(f"temperature is {self.temperature}; it must be 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise EvaluationError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if self.top_k < 0:
            raise EvaluationError(f"top_k is {self.top_k}; it must be 0 (all tokens) or more")


def choose(logits: Tensor, draws: Sequence[float], sampling: Sampling) -> list[int]:
    """The next token of each row.

    Args:
        logits: fp32 `(rows, vocab)`.
        draws: a number in [0, 1) for each row: 0 takes its first candidate, one close to 1 its last.
    """
    if sampling.temperature == 0:
        return logits.argmax(-1).tolist()
    # The largest logit becomes 0: dividing by a tiny temperature must not overflow.
    scaled = (logits - logits.amax(-1, keepdim=True)) / sampling.temperature
    if sampling.top_k:
        values, tokens = scaled.topk(min(sampling.top_k, scaled.shape[-1]))
        return _draw(values.softmax(-1), tokens, draws, sampling.top_p)
    if sampling.top_p == 1:
        return _draw(scaled.softmax(-1), None, draws, 1.0)
    return _draw_from_nucleus(scaled, draws, sampling.top_p)


def _draw_from_nucleus(scaled: Tensor, draws: Sequence[float], top_p: float) -> list[int]:
    """Look among the most probable few first, and among more only for the rows whose nucleus is larger."""
    total = scaled.logsumexp(-1, keepdim=True)
    chosen = [0] * len(draws)
    rows, candidates = list(range(len(draws))), _FIRST_CANDIDATES
    while rows:
        values, tokens = (scaled[rows] if len(rows) < len(draws) else scaled).topk(min(candidates, scaled.shape[-1]))
        probabilities = (values - total[rows]).exp()
        enough = (probabilities.double().sum(-1) >= top_p).tolist()
        if tokens.shape[-1] == scaled.shape[-1]:
            enough = [True] * len(rows)
        found = _draw(probabilities, tokens, [draws[row] for row in rows], top_p)
        for row, token, settled in zip(rows, found, enough, strict=True):
            if settled:
                chosen[row] = token
        rows = [row for row, settled in zip(rows, enough, strict=True) if not settled]
        candidates *= 8
    return chosen


def _draw(probabilities: Tensor, tokens: Tensor | None, draws: Sequence[float], top_p: float) -> list[int]:
    """Draw from `(rows, candidates)`, the most probable first where top_p cuts; `tokens` are the candidates' ids."""
    probabilities = probabilities.double()
    cumulative = probabilities.cumsum(-1)
    if top_p < 1:
        cumulative = probabilities.masked_fill(cumulative - probabilities >= top_p, 0).cumsum(-1)
    points = torch.tensor(draws, dtype=torch.float64, device=cumulative.device)[:, None] * cumulative[:, -1:]
    places = torch.searchsorted(cumulative, points, right=True).clamp(max=cumulative.shape[-1] - 1)
    return (places if tokens is None else tokens.gather(-1, places))[:, 0].tolist()
