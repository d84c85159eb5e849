"""Does a model write training files down when it is shown their beginnings?

As Carlini et al., Quantifying Memorization Across Neural Language Models (2023): the first k tokens of a file are the
prompt, greedy decoding goes on, and what counts is how many of the following tokens are exactly the file's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from codelm.eval.memorisation.passages import Passage
from codelm.eval.prompts import Tokenizer
from codelm.model.generation import generate, max_length

Row = dict[str, Any]
"""task_id, split, repository, path, matched (tokens), text (those tokens)."""


@dataclass(frozen=True)
class Lengths:
    """Tokens of the prompt, and the numbers of following ones that are asked for, the largest last."""

    prompt: int = 50
    asked: tuple[int, ...] = (10, 25, 50)

    @property
    def whole(self) -> int:
        """Tokens that a file must have."""
        return self.prompt + self.asked[-1]


def extract(
    model: nn.Module,
    tokenizer: Tokenizer,
    passages: Sequence[Passage],
    lengths: Lengths,
    done: Mapping[str, Row],
    keep: Callable[[Row], None],
    batch_size: int = 16,
) -> None:
    """Prompt with the beginning of each passage that is not done; `keep` is called with each row as it is found.

    Passages that are too short in this model's tokens, or longer than the model, are left out. A sample ends with the
    first token that is not the file's, so a model that has learnt nothing by heart is quickly done.
    """
    limit = max_length(model)
    todo = []
    for passage in passages:
        ids = tokenizer.encode(passage.text)[: lengths.whole]
        if passage.id not in done and len(ids) == lengths.whole and (limit is None or len(ids) <= limit):
            todo.append((passage, ids))

    def differs(place: int, new: list[int]) -> bool:
        return new[-1] != todo[place][1][lengths.prompt + len(new) - 1]

    def finished(place: int, new: list[int], _: str) -> None:
        passage, ids = todo[place]
        pairs = zip(new, ids[lengths.prompt :], strict=False)
        matched = next((count for count, (one, other) in enumerate(pairs) if one != other), len(new))
        keep({
            "task_id": passage.id,
            "split": passage.split,
            "repository": passage.repository,
            "path": passage.path,
            "matched": matched,
            "text": tokenizer.decode(ids[lengths.prompt : lengths.prompt + matched]),
        })  # fmt: skip

    generate(
        model,
        [ids[: lengths.prompt] for _, ids in todo],
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        max_new_tokens=lengths.asked[-1],
        vocab_size=tokenizer.vocab_size,
        batch_size=batch_size,
        stop=differs,
        progress=finished,
    )
