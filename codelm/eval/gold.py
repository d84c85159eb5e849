"""Gold-solution bits per byte: how well a model predicts the reference solutions, without running anything.

A smooth signal where pass@1 is still 0. As OLMo-core's `codex_humaneval_gold_bpb`: the negative log-likelihood of the
solution given the prompt, in bits, over the solution's bytes in UTF-8; the mean over problems.
"""

import inspect
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from codelm.eval.prompts import Prompt, Tokenizer
from codelm.model.generation import evaluating, max_length

Row = dict[str, Any]
"""task_id, bits (None where there is no solution) and bytes."""

_BATCH = 8
_MOST_SCORED = 4096
"""Tokens of a batch with logits of their own: at 50,000 entries a token, most of the memory."""
_WINDOW = 4096
"""Where a model names no length."""


def measure_gold(
    model: nn.Module,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    done: dict[str, Row],
    keep: Callable[[Row], None],
) -> None:
    """The bits and bytes of the reference solutions that are not done yet, into `done`; the first sample's prompts.

    `keep` is called with each as it is measured.
    """
    missing = [prompt for prompt in prompts if prompt.sample == 0 and prompt.problem.task_id not in done]
    solutions = [prompt.left_to_model + prompt.problem.gold for prompt in missing]

    def scored(place: int, bits: float | None) -> None:
        task_id, size = missing[place].problem.task_id, len(solutions[place].encode())
        done[task_id] = {"task_id": task_id, "bits": bits, "bytes": size}
        keep(done[task_id])

    pairs = [(p.ids, tokenizer.encode(text)) for p, text in zip(missing, solutions, strict=True)]
    gold_bits(model, pairs, tokenizer.pad_id, scored)


def gold_bits(
    model: nn.Module,
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    pad_id: int,
    progress: Callable[[int, float | None], None] | None = None,
) -> list[float | None]:
    """The bits of each solution given its prompt, both as token ids.

    A prompt is shortened from the left where both together exceed the model's length. A solution that alone exceeds it
    is measured in windows, each token with at least half a window before it.

    Args:
        progress: called with a pair's place and its bits, as soon as they are there.

    Returns:
        The bits of each pair; None where the solution is empty.
    """
    limit = max_length(model) or _WINDOW
    windows = [window for place, pair in enumerate(pairs) for window in _windows(place, *pair, limit)]
    waiting = Counter(window.place for window in windows)
    bits: list[float | None] = [0.0 if place in waiting else None for place in range(len(pairs))]
    if progress:
        for place in sorted(set(range(len(pairs))) - waiting.keys()):
            progress(place, None)
    with evaluating(model), torch.no_grad():
        for batch in _batches(sorted(windows, key=lambda window: (-len(window.ids), window.place))):
            values = _bits(model, [window.ids for window in batch], [window.scored for window in batch], pad_id)
            for window, value in zip(batch, values, strict=True):
                bits[window.place] = (bits[window.place] or 0.0) + value
                waiting[window.place] -= 1
                if progress and not waiting[window.place]:
                    progress(window.place, bits[window.place])
    return bits


class _Window(NamedTuple):
    place: int
    ids: list[int]
    scored: int
    """So many of the last ids are the solution's."""


def _windows(place: int, prompt: Sequence[int], solution: Sequence[int], limit: int) -> Iterator[_Window]:
    whole = [*prompt, *solution]
    if 0 < len(solution) < limit or (solution and len(whole) <= limit):
        yield _Window(place, whole[-limit:], len(solution))
    elif solution:
        kept = min(len(prompt), limit // 2)
        end = len(prompt) + limit - kept
        yield _Window(place, whole[end - limit : end], limit - kept)
        while end < len(whole):
            scored = min(limit - limit // 2, len(whole) - end)
            end += scored
            yield _Window(place, whole[end - limit : end], scored)


def _batches(windows: Sequence[_Window]) -> Iterator[list[_Window]]:
    batch: list[_Window] = []
    for window in windows:
        most = max([window.scored, *(other.scored for other in batch)])
        if batch and (len(batch) == _BATCH or most * (len(batch) + 1) > _MOST_SCORED):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _bits(model: nn.Module, rows: list[list[int]], lengths: list[int], pad_id: int) -> list[float]:
    """The bits of the last `lengths[i]` tokens of each row; rows are padded on the left."""
    accepted = inspect.signature(model.forward).parameters
    device = next(model.parameters()).device
    longest, scored = max(map(len, rows)), max(lengths)
    ids = torch.tensor([[pad_id] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    extra: dict[str, Any] = {}
    if "position_ids" in accepted:
        extra["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    if "logits_to_keep" in accepted:
        extra["logits_to_keep"] = scored + 1
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits[:, -scored - 1 : -1]
    losses = F.cross_entropy(logits.float().transpose(1, 2), ids[:, -scored:], reduction="none").double()
    return [float(loss[scored - length :].sum()) / math.log(2) for loss, length in zip(losses, lengths, strict=True)]
