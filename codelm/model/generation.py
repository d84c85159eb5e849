"""Completing prompts with any causal language model of transformers: batches, a key-value cache, reproducible samples.

Our own loop instead of `model.generate`: rows leave the batch (and the cache) as they finish, every sample has its own
random stream, a stop rule sees token ids, and neither the global random state nor the model's mode moves.
"""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from codelm.errors import EvaluationError

Reason = Literal["eos", "stop", "length"]
"""Why a sample ended: it said EOS, the stop rule said so, or the tokens ran out."""


@dataclass
class _Row:
    index: int
    prompt: list[int]
    budget: int
    generator: torch.Generator
    tokens: list[int] = field(default_factory=list)


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    eos_id: int,
    pad_id: int,
    max_new_tokens: int,
    vocab_size: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    batch_size: int = 16,
    stop: Callable[[int, list[int]], bool] | None = None,
    progress: Callable[[int, list[int], Reason], None] | None = None,
) -> list[list[int]]:
    """Complete each prompt.

    Args:
        model: a causal language model of transformers, on one device; its mode is restored afterwards.
        prompts: token ids; the longest are done first.
        eos_id: ends a sample; it is not among the tokens returned.
        pad_id: any id of the vocabulary; it fills masked positions only.
        max_new_tokens: at most so many; fewer where prompt and completion would exceed the model's length.
        vocab_size: the tokenizer's; ids from it on, rows that fill up the output layer, are never chosen.
        temperature: 0 is greedy.
        top_p: sample from the smallest set of tokens with at least this probability together.
        seed: a sample depends on this, on its place in `prompts` and on the prompt, not on its batch.
        seeds: one for each prompt, instead of `seed` and the place.
        stop: called with a prompt's place and its new tokens after each of them; true ends it, the tokens stay.
        progress: called once for each finished sample with its place, its new tokens and why it ended.

    Returns:
        The new token ids of each prompt, in the order of the prompts.

    Raises:
        EvaluationError: for an empty prompt, or one as long as the model's length or longer: which tokens to leave out
            is the caller's decision.
    """
    limit = max_length(model)
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise EvaluationError(
                f"prompt {index} is empty: a model needs at least one token, such as EOS, to go on from"
            )
        if limit is not None and len(prompt) >= limit:
            raise EvaluationError(
                f"prompt {index} has {len(prompt)} tokens, the model's length is {limit}: shorten it from the left"
            )
    seeds = seeds if seeds is not None else [sample_seed(seed, index) for index in range(len(prompts))]
    rows = []
    for index, prompt in enumerate(prompts):
        budget = max_new_tokens if limit is None else min(max_new_tokens, limit - len(prompt))
        rows.append(_Row(index, list(prompt), budget, torch.Generator().manual_seed(seeds[index])))
    done: dict[int, list[int]] = {}
    with evaluating(model), torch.no_grad():
        for batch in _batches(rows, batch_size, max_new_tokens):
            for row, reason in _complete(model, batch, eos_id, pad_id, vocab_size, temperature, top_p, stop):
                done[row.index] = row.tokens
                if progress:
                    progress(row.index, row.tokens, reason)
    return [done[index] for index in range(len(prompts))]


def sample_seed(*parts: object) -> int:
    """A seed for one sample's random stream, from anything that names it."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def max_length(model: nn.Module) -> int | None:
    """The longest sequence that the model can take, in tokens; None when it does not say, or has no such bound.

    Our model with ALiBi goes beyond the length it was trained at; a learned or fixed table of positions does not.
    """
    config = getattr(model, "config", None)
    if getattr(config, "model_type", None) == "replit_code" and getattr(config, "attn_config", {}).get("alibi"):
        return None
    for name in ("max_seq_len", "max_position_embeddings", "n_positions"):
        length = getattr(config, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None


def _batches(rows: list[_Row], batch_size: int, max_new_tokens: int) -> Iterator[list[_Row]]:
    """Batches of similar length, the longest first.

    A row that may not have all the new tokens shares a batch with rows of its own length only: padding counts towards
    the model's length, and a longer neighbour's would take tokens from the others.
    """
    batch: list[_Row] = []
    for row in sorted(rows, key=lambda row: (-len(row.prompt), row.index)):
        fits = not batch or batch[0].budget == max_new_tokens or len(batch[0].prompt) == len(row.prompt)
        if len(batch) == batch_size or not fits:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _complete(
    model: nn.Module,
    rows: list[_Row],
    eos_id: int,
    pad_id: int,
    vocab_size: int | None,
    temperature: float,
    top_p: float,
    stop: Callable[[int, list[int]], bool] | None,
) -> Iterator[tuple[_Row, Reason]]:
    """Complete one batch, yielding rows as they finish."""
    accepted = inspect.signature(model.forward).parameters
    device = next(model.parameters()).device
    longest = max(len(row.prompt) for row in rows)
    padding = [longest - len(row.prompt) for row in rows]
    ids = torch.tensor([[pad_id] * pad + row.prompt for pad, row in zip(padding, rows, strict=True)], device=device)
    mask = torch.tensor(
        [[0] * pad + [1] * len(row.prompt) for pad, row in zip(padding, rows, strict=True)], device=device
    )
    cache: Any = None
    while rows:
        extra: dict[str, Any] = {}
        if "position_ids" in accepted:
            extra["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in accepted:
            extra["logits_to_keep"] = 1
        output = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **extra)
        cache = output.past_key_values
        chosen = _choose(output.logits[:, -1, :vocab_size].float(), rows, temperature, top_p)
        going_on = []
        for place, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            reason = _advance(row, token, eos_id, stop)
            if reason:
                yield row, reason
            else:
                going_on.append(place)
        if len(going_on) < len(rows):
            rows = [rows[place] for place in going_on]
            if not rows:
                return
            kept = torch.tensor(going_on, device=device)
            chosen, mask, cache = chosen[kept.to(chosen.device)], mask[kept], _select(cache, kept)
        ids = chosen.to(device)[:, None]
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], dim=1)


def _advance(row: _Row, token: int, eos_id: int, stop: Callable[[int, list[int]], bool] | None) -> Reason | None:
    if token == eos_id:
        return "eos"
    row.tokens.append(token)
    if stop is not None and stop(row.index, row.tokens):
        return "stop"
    return "length" if len(row.tokens) >= row.budget else None


def _choose(logits: Tensor, rows: list[_Row], temperature: float, top_p: float) -> Tensor:
    """The next token of each row `(batch,)` from its logits `(batch, vocab)`, by each row's own random stream."""
    if temperature == 0:
        return logits.argmax(-1)
    probabilities, tokens = (logits / temperature).softmax(-1).sort(stable=True, dim=-1, descending=True)
    cumulative = probabilities.double().cumsum(-1)
    if top_p < 1:
        beyond = cumulative - probabilities >= top_p
        cumulative = probabilities.double().masked_fill(beyond, 0).cumsum(-1)
    draws = torch.stack([torch.rand((), generator=row.generator, dtype=torch.float64) for row in rows])
    # A draw of 0 takes the first token, one just below the total the last that has any probability.
    points = draws.to(logits.device)[:, None] * cumulative[:, -1:]
    places = torch.searchsorted(cumulative, points, right=True).clamp(max=logits.shape[-1] - 1)
    return tokens.gather(-1, places)[:, 0]


def _select(cache: Any, rows: Tensor) -> Any:
    """Keep some rows of a cache."""
    if isinstance(cache, tuple):
        return tuple(tuple(part.index_select(0, rows) for part in layer) for layer in cache)
    cache.batch_select_indices(rows)
    return cache


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and afterwards each module's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
