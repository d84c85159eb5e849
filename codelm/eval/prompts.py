"""From problems to the token ids that a model sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import nn

from codelm.config.evaluation.tasks import TaskSection
from codelm.errors import EvaluationError
from codelm.eval.problem import Problem
from codelm.eval.records import Key
from codelm.model.generation import max_length

_LEAST_ROOM = 128
_FIM = ("fim_prefix", "fim_suffix", "fim_middle")


class Tokenizer(Protocol):
    """What an evaluation needs of `codelm.tokenizer`'s classes."""

    eos_id: int
    pad_id: int

    @property
    def vocab_size(self) -> int:
        """Ids are below it."""
        ...

    def encode(self, text: str) -> list[int]:
        """Raw ids, nothing added."""
        ...

    def decode(self, ids: Any) -> str:
        """The inverse of `encode`."""
        ...

    def decode_behind(self, ids: Any) -> str:
        """The text that ids add behind other text."""
        ...

    def fingerprint(self) -> Any:
        """What identifies it."""
        ...


@dataclass(frozen=True)
class Prompt:
    """A problem as the model sees it, for one sample.

    Attributes:
        left_out: tokens that did not fit.
        left_to_model: see `codelm.eval.records.Completion`.
    """

    problem: Problem
    sample: int
    ids: list[int]
    left_out: int
    left_to_model: str

    @property
    def key(self) -> Key:
        return self.problem.task_id, self.sample


def build_prompts(
    model: nn.Module, tokenizer: Tokenizer, section: TaskSection, problems: Sequence[Problem]
) -> list[Prompt]:
    """The prompts of all samples, problem by problem.

    Raises:
        EvaluationError: something is to be filled in, and the tokenizer has no fill-in-the-middle tokens.
    """
    limit = max_length(model)
    room = None if limit is None else limit - min(section.max_new_tokens, _LEAST_ROOM, limit // 2)
    prompts = []
    for problem in problems:
        if problem.suffix is None:
            ids, tail = aligned(tokenizer, problem)
            left_out = 0 if room is None else max(0, len(ids) - room)
            ids = ids[left_out:]
        else:
            (ids, left_out), tail = _around(tokenizer, problem, room), ""
        prompts += [Prompt(problem, sample, ids, left_out, tail) for sample in range(section.num_samples)]
    return prompts


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokenizer's reserved ids by name; none where it says nothing of them."""
    return getattr(tokenizer, "special_ids", {})


def aligned(tokenizer: Tokenizer, problem: Problem) -> tuple[list[int], str]:
    """A prompt's ids as they would be with the completion behind it, and the whitespace that this leaves out.

    Many vocabularies have one token for a line's end and the next line's indentation. A prompt that ends with the bare
    line's end is then a text such a model has never seen, and it writes no body.
    """
    prompt = problem.prompt
    behind = "    return" if problem.form == "function" else "def f"
    ids, continued = tokenizer.encode(prompt), tokenizer.encode(prompt + behind)
    shared = next(
        (place for place, pair in enumerate(zip(ids, continued, strict=False)) if pair[0] != pair[1]), len(ids)
    )
    kept = tokenizer.decode(ids[:shared])
    if shared and prompt.startswith(kept) and not prompt[len(kept) :].strip():
        return ids[:shared], prompt[len(kept) :]
    return ids, ""


def _around(tokenizer: Tokenizer, problem: Problem, room: int | None) -> tuple[list[int], int]:
    """Prefix, suffix, middle; most of the room is the prefix's. And how many tokens were left out."""
    marks = [special_ids(tokenizer).get(name) for name in _FIM]
    if None in marks:
        raise EvaluationError(
            "the tokenizer of this checkpoint has no fill-in-the-middle tokens, so the model cannot see what stands"
            " behind the gap; leave tasks.infilling out"
        )
    before, behind = tokenizer.encode(problem.prompt), tokenizer.encode(problem.suffix or "")
    whole = len(before) + len(behind)
    if room is not None and whole > room - len(marks):
        room -= len(marks)
        behind = behind[: max(room // 4, room - len(before))]
        before = before[max(0, len(before) - (room - len(behind))) :]
    left_out = whole - len(before) - len(behind)
    first, second, third = (mark for mark in marks if mark is not None)
    return [first, *before, second, *behind, third], left_out
