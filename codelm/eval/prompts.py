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
        EvaluationError: see `why_not`.
    """
    reason = why_not(tokenizer, problems)
    if reason is not None:
        raise EvaluationError(reason)
    limit = max_length(model)
    rooms = [] if limit is None else [limit - min(section.max_new_tokens, _LEAST_ROOM, limit // 2)]
    rooms += [section.max_prompt_tokens] if section.max_prompt_tokens else []
    room = min(rooms, default=None)
    prompts = []
    for problem in problems:
        if not problem.completed:
            # Documents follow one another in training, each behind the last one's end.
            prompts.append(Prompt(problem, 0, [tokenizer.eos_id], 0, ""))
            continue
        if problem.fills_in:
            (ids, left_out), tail = _around(tokenizer, problem, room), ""
        else:
            before, tail = aligned(tokenizer, problem)
            ids, left_out = _fitted(_above(tokenizer, problem), before, room)
        prompts += [Prompt(problem, sample, ids, left_out, tail) for sample in range(section.num_samples)]
    return prompts


def why_not(tokenizer: Tokenizer, problems: Sequence[Problem]) -> str | None:
    """Why these problems cannot be shown to a model with this tokenizer; None where they can."""
    if any(problem.fills_in for problem in problems) and not _fim_ids(tokenizer):
        return (
            "the tokenizer of this checkpoint has no fill-in-the-middle tokens, so the model cannot see what stands"
            " behind a gap; leave this benchmark out, or (a repository's) set its `form` to left_to_right"
        )
    return None


def special_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """The tokenizer's reserved ids by name; none where it says nothing of them."""
    return getattr(tokenizer, "special_ids", {})


def aligned(tokenizer: Tokenizer, problem: Problem) -> tuple[list[int], str]:
    """A prompt's ids as they would be with the completion behind it, and the whitespace that this leaves out.

    Many vocabularies have one token for a line's end and the next line's indentation. A prompt that ends with the bare
    line's end is then a text such a model has never seen, and it writes no body.
    """
    prompt = problem.prompt
    behind = _behind(problem)
    ids, continued = tokenizer.encode(prompt), tokenizer.encode(prompt + behind)
    shared = next(
        (place for place, pair in enumerate(zip(ids, continued, strict=False)) if pair[0] != pair[1]), len(ids)
    )
    kept = tokenizer.decode(ids[:shared])
    if shared and prompt.startswith(kept) and not prompt[len(kept) :].strip():
        return ids[:shared], prompt[len(kept) :]
    return ids, ""


def _behind(problem: Problem) -> str:
    """How a completion begins that the tokens of its prompt's end must fit."""
    if problem.form == "gap":
        return problem.gold[: len(problem.gold) - len(problem.gold.lstrip(" \t"))] + "return"
    return "    return" if problem.form == "function" else "def f"


def _above(tokenizer: Tokenizer, problem: Problem) -> list[int]:
    return tokenizer.encode(problem.context) if problem.context else []


def _fitted(above: list[int], ids: list[int], room: int | None) -> tuple[list[int], int]:
    """A prompt below its context, and how many tokens were left out: each loses its beginning.

    Where both do not fit, the context has half of the room, or what the prompt leaves.
    """
    whole = len(above) + len(ids)
    if room is not None and whole > room:
        above = above[max(0, len(above) - max(room // 2, room - len(ids))) :]
        ids = ids[max(0, len(ids) - (room - len(above))) :]
    return [*above, *ids], whole - len(above) - len(ids)


def _fim_ids(tokenizer: Tokenizer) -> list[int]:
    """Of prefix, suffix and middle; none where one is missing."""
    marks = [mark for name in _FIM if (mark := special_ids(tokenizer).get(name)) is not None]
    return marks if len(marks) == len(_FIM) else []


def _around(tokenizer: Tokenizer, problem: Problem, room: int | None) -> tuple[list[int], int]:
    """Prefix, suffix, middle; most of the room is the prefix's. And how many tokens were left out."""
    first, second, third = _fim_ids(tokenizer)
    above = _above(tokenizer, problem)
    before, behind = tokenizer.encode(problem.prompt), tokenizer.encode(problem.suffix or "")
    whole = len(above) + len(before) + len(behind)
    if room is not None:
        room -= len(_FIM)
        behind = behind[: max(room // 4, room - len(above) - len(before))]
        room -= len(behind)
    shown, _ = _fitted(above, before, room)
    return [first, *shown, second, *behind, third], whole - len(shown) - len(behind)
