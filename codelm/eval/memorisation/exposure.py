"""How much a model has learnt of a planted secret, even if it never says it.

Exposure (Carlini et al., The Secret Sharer, 2019): of all secrets that might have been planted, in the order of their
likelihood under the model, at which rank stands the one that was. log2(candidates) - log2(rank) bits; a model that has
never seen it gives any rank with the same probability: 1.44 bits on average, and x bits or more once in 2^x canaries.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from codelm.eval.gold import gold_bits
from codelm.eval.memorisation.canaries import Canary
from codelm.eval.prompts import Tokenizer
from codelm.model.generation import generate

Row = dict[str, Any]
"""task_id, kind, repeats, rank, candidates, exposure (bits), extracted, text."""


def expose(
    model: nn.Module,
    tokenizer: Tokenizer,
    canaries: Sequence[Canary],
    candidates: int,
    done: Mapping[str, Row],
    keep: Callable[[Row], None],
) -> None:
    """The rank of each canary that is not done among random others, and whether greedy decoding says it."""
    todo = [canary for canary in canaries if canary.id not in done]
    if not todo:
        return
    said = generate(
        model,
        [tokenizer.encode(canary.prefix) for canary in todo],
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        max_new_tokens=max(len(tokenizer.encode(canary.secret)) for canary in todo) + 4,
        vocab_size=tokenizer.vocab_size,
        batch_size=16,
    )
    for canary, ids in zip(todo, said, strict=True):
        secrets = [canary.secret, *canary.others(candidates)]
        bits = gold_bits(model, [_split(tokenizer, canary.prefix, secret) for secret in secrets], tokenizer.pad_id)
        own = bits[0]
        # What is as likely counts as likelier: a model that finds all alike has learnt nothing.
        rank = 1 + sum(own is None or other is None or other <= own for other in bits[1:])
        text = tokenizer.decode(ids)
        keep({
            "task_id": canary.id,
            "kind": canary.kind,
            "repeats": canary.repeats,
            "rank": rank,
            "candidates": len(secrets),
            "exposure": math.log2(len(secrets)) - math.log2(rank),
            "extracted": text.startswith(canary.secret),
            "text": text,
        })  # fmt: skip


def _split(tokenizer: Tokenizer, prefix: str, secret: str) -> tuple[list[int], list[int]]:
    """The ids before and of a secret in its place; what a token of both holds is the secret's."""
    before, whole = tokenizer.encode(prefix), tokenizer.encode(prefix + secret)
    shared = next(
        (place for place, pair in enumerate(zip(before, whole, strict=False)) if pair[0] != pair[1]), len(before)
    )
    return whole[:shared], whole[shared:]
