"""Does an exported folder compute what its source does? Asked of transformers' own classes, not of ours."""

import contextlib
import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from codelm.errors import CheckpointError
from codelm.tokenizer import MODEL_FILE, CodeTokenizer, JsonTokenizer

PROMPTS = (
    "def fibonacci(n):\n    ",
    "import os\n\n\nclass Config:\n    def __init__(self, path):\n        self.path = path\n",
    "#include <stdio.h>\n\nint main(void) {\n\tfor (int i = 0; i < 10; ++i)\n\t\t",
    "# naïve λ → 日本語 🙂 \u2581 <|endoftext|>\nprint(",
    "SELECT name, count(*) FROM users WHERE ",
)


@dataclass(frozen=True)
class Parity:
    """How an export compares with its source."""

    positions: int
    """Positions whose logits were compared."""
    max_logit_difference: float
    largest_logit: float
    greedy_tokens: int
    """Tokens that both chose greedily, with their caches."""
    differing_greedy_tokens: int
    texts: int
    """Prompts that the export's own tokenizer brings back as the source's does."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        return (
            f"logits differ by at most {self.max_logit_difference:.2g} (largest {self.largest_logit:.1f}) at "
            f"{self.positions} positions; {self.greedy_tokens - self.differing_greedy_tokens} of "
            f"{self.greedy_tokens} greedy tokens are the same; {self.texts} of {len(PROMPTS)} texts "
            "come back as from the source's tokenizer"
        )


@torch.no_grad()
def check_parity(
    source: PreTrainedModel,
    tokenizer: CodeTokenizer | JsonTokenizer,
    folder: Path,
    new_tokens: int = 24,
    tolerance: float = 1e-4,
) -> Parity:
    """Compare logits and greedy continuations of the source and of the exported folder, both in fp32.

    Args:
        source: with the weights as they were exported (rounded to the export's type).
        tolerance: of the logits, relative to the largest one.

    Raises:
        CheckpointError: the export computes something else, or its tokenizer loses text.
    """
    exported = _transformers_own(folder).float().eval()
    # Native MPT refuses to go past its max_seq_len.
    longest = getattr(exported.config, "max_seq_len", 2048)
    new_tokens = min(new_tokens, longest // 2)
    prompts = [torch.tensor([tokenizer.encode(prompt)[: longest - new_tokens]]) for prompt in PROMPTS]
    difference = largest = 0.0
    greedy = differing = 0
    for prompt in prompts:
        expected, found = _continue(source, prompt, new_tokens), _continue(exported, prompt, new_tokens)
        logits, others = source(expected, use_cache=False).logits, exported(expected, use_cache=False).logits
        difference = max(difference, float((logits - others).abs().max()))
        largest = max(largest, float(logits.abs().max()))
        greedy += expected.shape[1] - prompt.shape[1]
        differing += _differing(expected, found, logits, tolerance * largest)
    texts = _texts_back(folder, tokenizer)
    parity = Parity(sum(prompt.shape[1] for prompt in prompts) + greedy, difference, largest, greedy, differing, texts)
    if not difference <= tolerance * largest or differing or texts < len(PROMPTS):
        raise CheckpointError(f"the export does not compute what its source does: {parity.sentence()}")
    return parity


def _transformers_own(folder: Path) -> PreTrainedModel:
    """The model as transformers computes it alone: importing codelm puts our class in place of its MPT."""
    fields = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # transformers 5 prints remarks on its own documentation when it imports its MPT.
    with contextlib.redirect_stdout(io.StringIO()):
        cls: Any = transformers.MptForCausalLM if fields.get("model_type") == "mpt" else AutoModelForCausalLM
    return cls.from_pretrained(folder, trust_remote_code=False)


def _continue(model: PreTrainedModel, prompt: Tensor, new_tokens: int) -> Tensor:
    generate: Any = model.generate
    return generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=new_tokens, do_sample=False)


def _differing(expected: Tensor, found: Tensor, logits: Tensor, tolerance: float) -> int:
    """How many tokens differ; none do when the two part at a near tie, after which nothing can be compared."""
    length = min(expected.shape[1], found.shape[1])
    parted = (expected[0, :length] != found[0, :length]).nonzero()
    if not len(parted):
        return abs(expected.shape[1] - found.shape[1])
    at = int(parted[0])
    gap = logits[0, at - 1, expected[0, at]] - logits[0, at - 1, found[0, at]]
    return 0 if gap <= 2 * tolerance else len(parted)


def _texts_back(folder: Path, source: CodeTokenizer | JsonTokenizer) -> int:
    # With codelm imported, AutoTokenizer gives our class for our models.
    cls: Any = PreTrainedTokenizerFast if (folder / MODEL_FILE).is_file() else AutoTokenizer
    tokenizer = cls.from_pretrained(folder, trust_remote_code=False)
    back = [tokenizer.decode(tokenizer(prompt, add_special_tokens=False)["input_ids"]) for prompt in PROMPTS]
    return sum(text == source.decode(source.encode(prompt)) for text, prompt in zip(back, PROMPTS, strict=True))
