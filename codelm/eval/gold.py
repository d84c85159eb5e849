"""Gold-solution bits per byte: how well a model predicts the reference solutions, without running anything.

A smooth signal where pass@1 is still 0. As OLMo-core's `codex_humaneval_gold_bpb`: the negative log-likelihood of the
solution given the prompt, in bits, over the solution's bytes in UTF-8; the mean over problems.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from codelm.eval.prompts import Prompt, Tokenizer
from codelm.model.generation import evaluating, max_length

Row = dict[str, Any]
"""task_id, bits (None where the solution exceeds the model's length) and bytes."""

_BATCH = 8


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

    A prompt is shortened from the left where both together exceed the model's length.

    Args:
        progress: called with a pair's place and its bits.

    Returns:
        The bits of each pair; None where the solution alone exceeds the model's length.
    """
    limit = max_length(model) or sum(len(prompt) + len(solution) for prompt, solution in pairs) + 1
    fitting = [place for place, (_, solution) in enumerate(pairs) if 0 < len(solution) < limit]
    fitting.sort(key=lambda place: -len(pairs[place][0]) - len(pairs[place][1]))
    bits: list[float | None] = [None] * len(pairs)
    if progress:
        for place in sorted(set(range(len(pairs))) - set(fitting)):
            progress(place, None)
    with evaluating(model), torch.no_grad():
        for start in range(0, len(fitting), _BATCH):
            places = fitting[start : start + _BATCH]
            rows = [[*pairs[place][0], *pairs[place][1]][-limit:] for place in places]
            lengths = [len(pairs[place][1]) for place in places]
            for place, value in zip(places, _bits(model, rows, lengths, pad_id), strict=True):
                bits[place] = value
                if progress:
                    progress(place, value)
    return bits


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
