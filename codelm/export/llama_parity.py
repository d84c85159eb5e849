"""Does a GGUF file compute in llama.cpp what its source does? Log-probabilities, greedy tokens, ids of real files."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from codelm.errors import CheckpointError
from codelm.export.llama_server import LlamaServer, llama_server
from codelm.export.parity import PROMPTS
from codelm.model.fast_tokenizer import sample_texts
from codelm.tokenizer import CodeTokenizer

HOW_TO_GET_IT = "install it with `pip install --no-deps xllamacpp==2026.10.11549` and export again"

TOLERANCE = {"f16": 0.05, "q8_0": 0.3}
"""How far a log-probability may be off: llama.cpp computes GELU by the tanh formula and a table in f16, and rounds the
activations that meet f16 or q8_0 weights to that type."""
_DIFFERING_TOKENS = 0.02
_NEW_TOKENS = 24
_TOP = 10
_LONGEST = 512


@dataclass(frozen=True)
class IdCounts:
    """How llama.cpp's ids of some texts compare with sentencepiece's.

    Attributes:
        differing_files: texts with other ids somewhere.
        lost_files: texts that those ids do not stand for.
        differing_tokens: of sentencepiece's `tokens`, those that llama.cpp has not at their place.
    """

    files: int
    differing_files: int
    lost_files: int
    tokens: int
    differing_tokens: int


@dataclass(frozen=True)
class LlamaParity:
    """How a GGUF file in llama.cpp compares with its source, whose weights are rounded alike.

    Attributes:
        logprobs: log-probabilities compared, the likeliest `_TOP` at each position.
        greedy_tokens: tokens that llama.cpp chose; `same_greedy_tokens` of them are the source's first choice as well,
            the others are as likely within the tolerance.
        ids: of the files of `corpus`.
    """

    contexts: int
    logprobs: int
    max_difference: float
    mean_difference: float
    greedy_tokens: int
    same_greedy_tokens: int
    ids: IdCounts
    corpus: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentences(self) -> list[str]:
        """What was measured, a sentence each."""
        return [
            f"in llama.cpp, {self.logprobs} log-probabilities (the {_TOP} likeliest at each position after "
            f"{self.contexts} prompts) differ from the source's by at most {self.max_difference:.2g}, "
            f"{self.mean_difference:.1g} on average; {self.same_greedy_tokens} of {self.greedy_tokens} greedy tokens "
            "are the same",
            f"llama.cpp's ids differ from sentencepiece's on {self.ids.differing_files} of "
            f"{self.ids.files} files ({self.ids.differing_tokens} of {self.ids.tokens} tokens, {self.corpus})",
        ]


def check_llama_parity(model: PreTrainedModel, tokenizer: CodeTokenizer, file: Path, gguf_type: str) -> LlamaParity:
    """Compare a GGUF file with the model it was written from.

    Args:
        model: in fp32, with the weights rounded as in the file.

    Raises:
        CheckpointError: llama.cpp cannot load it, computes something else, or encodes text otherwise.
    """
    room = min(_LONGEST, model.config.max_seq_len)
    new_tokens = min(_NEW_TOKENS, room // 2)
    texts, corpus = sample_texts()
    # llama.cpp reads no NUL, and no source file has one.
    texts = [text for text in texts if "\0" not in text]
    longer = [text for text in texts if len(text) > 4 * room][:4]
    prompts = [tokenizer.encode(text)[: room - new_tokens] for text in (*PROMPTS, *longer)]
    with llama_server(file, room) as server:
        differences, greedy, same, worst_gap = [], 0, 0, 0.0
        for prompt in prompts:
            chosen, likeliest = server.complete(prompt, new_tokens, _TOP)
            logprobs = _source_logprobs(model, prompt, chosen)
            for expected, found in zip(logprobs, likeliest, strict=False):
                differences += [abs(value - float(expected[index])) for index, value in found.items()]
            for expected, token in zip(logprobs, chosen, strict=True):
                greedy += 1
                same += int(expected.argmax()) == token
                worst_gap = max(worst_gap, float(expected.max() - expected[token]))
        counts = compare_ids(server, tokenizer, texts)
        infill = _wrong_infill(server, tokenizer)
    if not differences:
        raise CheckpointError("llama.cpp gave no log-probabilities to compare, so parity cannot be shown")
    parity = LlamaParity(
        contexts=len(prompts),
        logprobs=len(differences),
        max_difference=max(differences),
        mean_difference=sum(differences) / len(differences),
        greedy_tokens=greedy,
        same_greedy_tokens=same,
        ids=counts,
        corpus=corpus,
    )
    tolerance = TOLERANCE[gguf_type]
    # The mean is NaN when any is.
    if not parity.mean_difference <= parity.max_difference <= tolerance or not worst_gap <= 2 * tolerance:
        raise CheckpointError(f"the GGUF file does not compute what its source does: {parity.sentences()[0]}")
    if counts.lost_files or counts.differing_tokens > _DIFFERING_TOKENS * counts.tokens:
        raise CheckpointError(f"the GGUF file does not encode text as its source does: {parity.sentences()[1]}")
    if infill is not None:
        raise CheckpointError(f"llama.cpp's /infill puts tokens and text together wrongly: {infill!r}")
    return parity


@torch.no_grad()
def _source_logprobs(model: PreTrainedModel, prompt: list[int], chosen: list[int]) -> torch.Tensor:
    """The source's log-probabilities before each chosen token, `(len(chosen), vocab)`."""
    forward: Any = model
    logits = forward(torch.tensor([prompt + chosen[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :]
    return logits.float().log_softmax(-1)


def compare_ids(server: LlamaServer, tokenizer: CodeTokenizer, texts: list[str]) -> IdCounts:
    """Encode texts with both and count."""
    lengths = tokenizer.token_bytes()
    differing = lost = tokens = differing_tokens = 0
    for text in texts:
        expected, found = tokenizer.encode(text), server.tokenize(text)
        tokens += len(expected)
        if expected != found:
            differing += 1
            lost += tokenizer.decode(expected) != tokenizer.decode(found)
            differing_tokens += len(_placed(expected, lengths) - _placed(found, lengths))
    return IdCounts(len(texts), differing, lost, tokens, differing_tokens)


def _placed(ids: list[int], lengths: Any) -> set[tuple[int, int]]:
    """Each token with the byte it begins at."""
    placed, at = set(), 0
    for index in ids:
        placed.add((at, index))
        at += int(lengths[index])
    return placed


def _wrong_infill(server: LlamaServer, tokenizer: CodeTokenizer) -> str | None:
    """What llama.cpp puts together for a gap, if that is not what the tokens are for."""
    if not all(name in tokenizer.special_ids for name in ("fim_prefix", "fim_suffix", "fim_middle")):
        return None
    prefix, suffix = "def f(x):\n    ", "\n    return y\n"
    found = server.infill_prompt(prefix, suffix)
    return None if found == f"<fim_prefix>{prefix}<fim_suffix>{suffix}<fim_middle>" else found
