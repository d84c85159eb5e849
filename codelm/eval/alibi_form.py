"""Which form of ALiBi was a checkpoint trained with? The one in which it predicts code better, in the type trained in.

Replit's published code adds the bias in row form, rounded to bf16: near neighbours are off by whole logits. Weights
that were trained with those roundings may have learned to live with them; weights that were not lose by them.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from codelm.errors import CheckpointError, EvaluationError
from codelm.eval.statistics import standard_error
from codelm.model import ReplitCodeForCausalLM
from codelm.model.generation import evaluating
from codelm.tokenizer import Tokenizer

FORMS = ("relative", "legacy")
DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class FormScores:
    """Bits per byte of the same windows of text in every form and type."""

    windows: int
    tokens: int
    bits_per_byte: dict[str, float]
    """By `form type`, such as `legacy bfloat16`."""
    advantage: float
    """Bits per byte by which `legacy` beats `relative` in bf16; below 0 when it loses."""
    error: float
    """Standard error of the advantage over windows."""

    @property
    def form(self) -> str:
        """The form to use: `legacy` only where it wins by more than two standard errors."""
        return "legacy" if self.advantage > 2 * self.error else "relative"

    def sentence(self) -> str:
        """The verdict."""
        gap = f"{abs(self.advantage):.4f} ± {self.error:.4f} bits per byte"
        if self.form == "legacy":
            return f"legacy predicts better by {gap}: set attn_config.alibi_form to legacy"
        won = "worse" if self.advantage < 0 else "better, within the error,"
        return f"legacy predicts {won} by {gap}: leave attn_config.alibi_form at relative"


def compare_forms(
    model: ReplitCodeForCausalLM,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    length: int,
    most_windows: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FormScores:
    """Score texts, laid end to end and cut into windows, in both forms, in fp32 and bf16.

    Args:
        model: its weights are rounded to bf16 for both types, so that only the arithmetic differs.
        length: of a window, in tokens; the roundings grow with it.
        most_windows: None takes all.
        progress: called with the passes done and all passes.

    Raises:
        CheckpointError: the model has no ALiBi.
        EvaluationError: the texts are shorter than two windows.
    """
    if not model.config.attn_config["alibi"]:
        raise CheckpointError("the model has learned positions instead of ALiBi: there is no form to choose")
    ids = [index for text in texts for index in (*tokenizer.encode(text), tokenizer.eos_id)]
    windows = [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)][:most_windows]
    if len(windows) < 2:
        raise EvaluationError(
            f"the texts have {len(ids):,} tokens, and two windows of {length} are needed: name more files, or a "
            "smaller length"
        )
    sizes = tokenizer.token_bytes()
    byte_counts = [int(sizes[window[1:]].sum()) for window in windows]
    settings, before = model.config.attn_config, dict(model.config.attn_config)
    scores: dict[str, list[float]] = {}
    try:
        settings["attn_impl"] = "torch"
        model.bfloat16()
        with evaluating(model), torch.no_grad():
            for dtype in DTYPES:
                model.to(dtype=dtype)  # pyright: ignore[reportCallIssue]
                for form in FORMS:
                    settings["alibi_form"] = form
                    name = f"{form} {str(dtype).removeprefix('torch.')}"
                    scores[name] = []
                    for window, size in zip(windows, byte_counts, strict=True):
                        scores[name].append(_bits(model, window) / max(1, size))
                        if progress:
                            progress(sum(map(len, scores.values())), len(windows) * len(DTYPES) * len(FORMS))
    finally:
        settings.clear()
        settings.update(before)
    gains = [a - b for a, b in zip(scores["relative bfloat16"], scores["legacy bfloat16"], strict=True)]
    means = {name: sum(values) / len(values) for name, values in scores.items()}
    return FormScores(len(windows), len(windows) * length, means, sum(gains) / len(gains), standard_error(gains) or 0.0)


def _bits(model: ReplitCodeForCausalLM, window: list[int]) -> float:
    """The bits of a window's tokens but the first."""
    ids = torch.tensor([window], device=next(model.parameters()).device)
    loss = model(ids, labels=ids, skip_logits=True).loss
    return float(loss) * (len(window) - 1) / math.log(2)
