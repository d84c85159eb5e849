"""Completing prompts with any causal language model of transformers: a full batch, reproducible samples, no waste.

Our own loop instead of `model.generate`. A prompt is read once, whatever the number of its samples. As soon as a sample
ends, it leaves the batch and the next one takes its place, the longest prompts first, so that no row of the batch is
computed for nothing. Every sample has its own random stream, a stop rule sees token ids, and neither the global random
state nor the model's mode moves.
"""

import copy
import hashlib
import inspect
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache

from codelm.errors import EvaluationError
from codelm.model.cpu_decoding import decoding_fast_on_cpu
from codelm.model.kv_cache import Prefix, RowCache, padding_mask
from codelm.model.sampling import Sampling, choose

Reason = Literal["eos", "stop", "length"]
"""Why a sample ended: it said EOS, the stop rule said so, or the tokens ran out."""

Stop = Callable[[int, list[int]], bool]
"""Called with a sample's place and its new tokens after each of them; true ends it, the tokens stay."""


@dataclass
class _Row:
    place: int
    prompt: tuple[int, ...]
    budget: int
    random: random.Random
    tokens: list[int] = field(default_factory=list)


def generate(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    *,
    eos_id: int,
    pad_id: int = 0,
    max_new_tokens: int,
    vocab_size: int | None = None,
    temperature: float = 0.0,
    top_p: float = 1.0,
    top_k: int = 0,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    num_samples: int = 1,
    batch_size: int = 16,
    stop: Stop | None = None,
    progress: Callable[[int, list[int], Reason], None] | None = None,
) -> list[list[int]]:
    """Complete each prompt, one or several times.

    Args:
        model: a causal language model of transformers, on one device; its mode is restored afterwards.
        prompts: token ids; equal ones are read once.
        eos_id: ends a sample; it is not among the tokens returned.
        pad_id: any id of the vocabulary; it stands in front of the shorter prompts where several are read at once.
        max_new_tokens: at most so many; fewer where prompt and completion would exceed the model's length.
        vocab_size: the tokenizer's; ids from it on, rows that fill up the output layer, are never chosen.
        temperature, top_p, top_k: see `codelm.model.sampling.Sampling`; temperature 0 is greedy.
        seed: a sample depends on this, on its place and on its prompt, not on its batch.
        seeds: one for each sample, instead of `seed` and the place.
        num_samples: completions of each prompt. Sample s of prompt p has the place `p * num_samples + s`.
        batch_size: rows at once.
        stop: called with a sample's place and its new tokens after each of them; true ends it, the tokens stay.
        progress: called once for each finished sample with its place, its new tokens and why it ended.

    Returns:
        The new token ids of each sample, in the order of their places.

    Raises:
        EvaluationError: for an empty prompt, or one as long as the model's length or longer: which tokens to leave out
            is the caller's decision; for sampling values out of range.
    """
    sampling = Sampling(temperature, top_p, top_k)
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
    rows = []
    for place in range(len(prompts) * num_samples):
        prompt = tuple(prompts[place // num_samples])
        budget = max_new_tokens if limit is None else min(max_new_tokens, limit - len(prompt))
        row_seed = seeds[place] if seeds is not None else sample_seed(seed, place)
        rows.append(_Row(place, prompt, budget, random.Random(row_seed)))
    rows.sort(key=lambda row: (-len(row.prompt), row.prompt, row.place))
    loop = _Loop(model, eos_id, pad_id, vocab_size, sampling, stop)
    done: dict[int, list[int]] = {}
    with ExitStack() as stack:
        for context in (evaluating(model), torch.no_grad(), decoding_fast_on_cpu(model)):
            stack.enter_context(context)
        several = batch_size > 1 and len(rows) > 1
        longest = max((len(row.prompt) + row.budget for row in rows), default=0)
        if turns_keys_anew(model, longest):
            run = loop.one_by_one(rows, remember=False)
        elif keeps_every_key(model) and not (several and loop.padding_shows(rows[0].prompt)):
            run = loop.in_batches(rows, batch_size)
        else:
            run = loop.one_by_one(rows)
        for row, reason in run:
            done[row.place] = row.tokens
            if progress:
                progress(row.place, row.tokens, reason)
    return [done[place] for place in range(len(rows))]


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


def keeps_every_key(model: nn.Module) -> bool:
    """Whether the model's state is keys and values alone, all of them, whatever its masks make of them.

    It is not for state-space and linear attention layers, nor for attention in chunks, whose bounds are positions.
    """
    config: Any = getattr(model, "config", None)
    if config is None:
        return False
    config = config.get_text_config() if hasattr(config, "get_text_config") else config
    kinds = set(getattr(config, "layer_types", None) or ())
    stateful = bool(getattr(model, "_is_stateful", False)) or not _accepts(model, "past_key_values")
    chunked = getattr(config, "attention_chunk_size", None) is not None
    return not stateful and not chunked and kinds <= {"full_attention", "sliding_attention"}


def turns_keys_anew(model: nn.Module, length: int) -> bool:
    """Whether the model's rotary angles of the first tokens change as a sequence grows to `length` tokens.

    The keys of a cache then belong to other angles than the model's own ("longrope", and "dynamic" past its length).
    """
    config: Any = getattr(model, "config", None)
    for name in ("rope_parameters", "rope_scaling"):
        rope = getattr(config, name, None)
        if isinstance(rope, dict) and (rope.get("rope_type") or rope.get("type")) in ("longrope", "dynamic"):
            places = (rope, config.__dict__)
            known = (place.get("original_max_position_embeddings") for place in places)
            bound = next((value for value in known if value), getattr(config, "max_position_embeddings", None))
            return bound is None or length > bound
    return False


def _accepts(model: nn.Module, name: str) -> bool:
    return name in inspect.signature(model.forward).parameters


def _prompts_at_once(device: torch.device, count: int) -> int:
    """On a CPU one prompt is enough to keep it busy, and padding would cost; an accelerator reads them together."""
    return 1 if device.type == "cpu" else count


class _Loop:
    """What all samples of a call have in common, and the two ways of running the model."""

    def __init__(
        self,
        model: nn.Module,
        eos_id: int,
        pad_id: int,
        vocab_size: int | None,
        sampling: Sampling,
        stop: Stop | None,
    ) -> None:
        self.model = model
        self.eos_id, self.pad_id, self.vocab_size = eos_id, pad_id, vocab_size
        self.sampling = sampling
        self.stop = stop
        self.device = next(model.parameters()).device
        self.last_only = {"logits_to_keep": 1} if _accepts(model, "logits_to_keep") else {}
        self.takes_positions = _accepts(model, "position_ids")

    def in_batches(self, rows: list[_Row], batch_size: int) -> Iterator[tuple[_Row, Reason]]:
        """Complete rows, yielding each as it ends and giving its place in the batch to the next."""
        waiting = deque(rows)
        prefixes: dict[tuple[int, ...], Prefix] = {}
        live: list[_Row] = []
        cache: RowCache | None = None
        while waiting or live:
            while waiting and len(live) < batch_size:
                joining = [waiting.popleft() for _ in range(min(batch_size - len(live), len(waiting)))]
                self._read({row.prompt: None for row in joining}, prefixes)
                logits = torch.stack([prefixes[row.prompt].logits for row in joining])
                for row, token in zip(joining, self._choose(logits, joining), strict=True):
                    reason = self._advance(row, token)
                    if reason:
                        yield row, reason
                        continue
                    prefix = prefixes[row.prompt]
                    if cache is None:
                        cache = RowCache(prefix, min(batch_size, len(rows)))
                    cache.add(prefix)
                    live.append(row)
                prefixes = {row.prompt: prefixes[row.prompt] for row in joining[-1:]}
            if cache is None or not live:
                continue
            tokens = self._choose(self._step(live, cache), live)
            # From the last row on: a row that leaves is replaced by the last one, which has been looked at by then.
            for place in reversed(range(len(live))):
                reason = self._advance(live[place], tokens[place])
                if reason:
                    yield live[place], reason
                    cache.remove(place)
                    live[place] = live[-1]
                    live.pop()

    def _read(self, prompts: Iterable[tuple[int, ...]], prefixes: dict[tuple[int, ...], Prefix]) -> None:
        """Run the model over prompts that are new, into `prefixes`."""
        new = [prompt for prompt in prompts if prompt not in prefixes]
        size = _prompts_at_once(self.device, max(len(new), 1))
        for start in range(0, len(new), size):
            group = new[start : start + size]
            with _short_of_memory(max(map(len, group))):
                prefixes.update(zip(group, self._prefill(group), strict=True))

    def _prefill(self, prompts: Sequence[tuple[int, ...]]) -> list[Prefix]:
        longest = max(map(len, prompts))
        padding = [longest - len(prompt) for prompt in prompts]
        ids = [[self.pad_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
        cache = DynamicCache()
        output = self.model(
            input_ids=torch.tensor(ids, device=self.device),
            past_key_values=cache,
            use_cache=True,
            **self._places(padding if any(padding) else None, longest, longest),
            **self.last_only,
        )
        if cache.get_seq_length() != longest:
            raise EvaluationError(
                f"{type(self.model).__name__} does not use the cache it is given, so it cannot be run in batches"
            )
        return [
            Prefix(
                keys=[layer.keys[row, :, pad:] for layer in cache.layers],  # pyright: ignore
                values=[layer.values[row, :, pad:] for layer in cache.layers],  # pyright: ignore
                logits=output.logits[row, -1],
                length=longest - pad,
            )
            for row, pad in enumerate(padding)
        ]

    def _step(self, rows: list[_Row], cache: RowCache) -> Tensor:
        """The logits of the next token of each row, `(rows, vocab)`."""
        cache.next_column()
        ids = torch.tensor([row.tokens[-1:] for row in rows], device=self.device)
        places = self._places(cache.padding(), max(cache.lengths), 1)
        output = self.model(input_ids=ids, past_key_values=cache, use_cache=True, **places, **self.last_only)
        return output.logits[:, -1]

    def _places(self, padding: list[int] | None, length: int, new: int) -> dict[str, Any]:
        """What tells a model where the tokens are; without padding nothing does, and the attention may be faster."""
        if padding is None:
            return {"attention_mask": None}
        mask = padding_mask(padding, length, self.device)
        places = {"attention_mask": mask}
        if self.takes_positions:
            places["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)[:, -new:]
        return places

    def padding_shows(self, prompt: Sequence[int]) -> bool:
        """Whether a prompt's logits change with padding in front of it, so that rows cannot share a batch.

        So they do where a model counts its positions by columns, or counts them otherwise than from 0.
        """
        ids = list(prompt[:5])
        alone, padded = (
            self.model(
                input_ids=torch.tensor([[self.pad_id] * pad + ids], device=self.device),
                **self._places([pad] if pad else None, pad + len(ids), pad + len(ids)),
            )
            .logits[0, -1, : self.vocab_size]
            .float()
            for pad in (0, 3)
        )
        exact = next(self.model.parameters()).dtype in (torch.float32, torch.float64)
        # Written so that nan shows. Numbers of 8 or 4 bits differ by a few hundredths for no reason.
        return not bool((alone - padded).norm() <= (1e-3 if exact else 0.1) * (alone - alone.mean()).norm())

    def one_by_one(self, rows: list[_Row], remember: bool = True) -> Iterator[tuple[_Row, Reason]]:
        """Complete rows one after the other with whatever the model remembers by; reads everything anew without."""
        prompt, first = (), None
        for row in rows:
            if row.prompt != prompt:
                prompt, first = row.prompt, self._alone(row.prompt, None)
            output = first
            while True:
                assert output is not None
                reason = self._advance(row, self._choose(output.logits[:, -1], [row])[0])
                if reason:
                    break
                memory = getattr(output, "past_key_values", None) if remember else None
                if memory is None:
                    output = self._alone(row.prompt + tuple(row.tokens), None)
                else:
                    memory = copy.deepcopy(memory) if output is first else memory
                    output = self._alone(tuple(row.tokens[-1:]), memory, len(row.prompt) + len(row.tokens) - 1)
            yield row, reason

    def _alone(self, ids: tuple[int, ...], memory: Any, seen: int = 0) -> Any:
        extra: dict[str, Any] = {}
        if _accepts(self.model, "past_key_values"):
            extra = {"past_key_values": memory, "use_cache": True}
        elif _accepts(self.model, "use_cache"):
            extra = {"use_cache": False}  # what it would remember, it could not be given back
        if _accepts(self.model, "attention_mask"):
            extra["attention_mask"] = torch.ones(1, seen + len(ids), dtype=torch.long, device=self.device)
        return self.model(input_ids=torch.tensor([ids], device=self.device), **extra)

    def _choose(self, logits: Tensor, rows: Sequence[_Row]) -> list[int]:
        return choose(logits[:, : self.vocab_size].float(), [row.random.random() for row in rows], self.sampling)

    def _advance(self, row: _Row, token: int) -> Reason | None:
        if token == self.eos_id:
            return "eos"
        row.tokens.append(token)
        if self.stop is not None and self.stop(row.place, row.tokens):
            return "stop"
        return "length" if len(row.tokens) >= row.budget else None


@contextmanager
def _short_of_memory(length: int) -> Iterator[None]:
    """Say which prompt the memory is too small for; a model without a longest sequence takes one of any length."""
    try:
        yield
    except RuntimeError as error:
        # torch has a class of its own for this on accelerators only.
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise EvaluationError(
            f"there is not enough memory to read a prompt of {length:,} tokens: shorten it from the left"
        ) from error


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
