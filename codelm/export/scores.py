"""The scores of a checkpoint, for its card: evaluations kept near it that were made with these very weights."""

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from codelm.errors import EvaluationError
from codelm.eval.results import SETTINGS, SUMMARY
from codelm.eval.run import weights_hash

METRICS_FILE = "metrics.jsonl"


def card_scores(
    model: PreTrainedModel, checkpoint: Path, run: dict[str, Any] | None, named: Path | None = None
) -> list[str]:
    """Rows of the card's table of scores: `| what | value | how |`.

    Looks into the checkpoint's folder, its run's and the one around that, for folders with `summary.json`; and for the
    held-out losses in the run's metrics.

    Args:
        model: with the weights as they were loaded.
        named: an evaluation's output folder, which must be of these weights.

    Raises:
        EvaluationError: `named` holds no finished evaluation, or one of other weights.
    """
    is_its_own = _by_weights(model)
    rows: list[str] = []
    if named is not None:
        settings, summary = _evaluation(named)
        if not summary:
            raise EvaluationError(f"{named} holds no finished evaluation ({SUMMARY} is absent); run eval/main.py first")
        if not is_its_own(settings):
            raise EvaluationError(f"the evaluation in {named} is of other weights than this checkpoint's")
        rows += _rows(settings, summary)
    else:
        for folder in _near(checkpoint):
            settings, summary = _evaluation(folder)
            if summary and is_its_own(settings):
                rows += _rows(settings, summary)
    return rows + (held_out_rows(checkpoint.parent / METRICS_FILE, int(run["batch"])) if run and "batch" in run else [])


def _near(checkpoint: Path) -> Iterator[Path]:
    for folder in (checkpoint, checkpoint.parent, checkpoint.parent.parent):
        for summary in sorted([*folder.glob(f"*/{SUMMARY}"), *folder.glob(f"eval/*/{SUMMARY}")]):
            yield summary.parent


def _evaluation(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    try:
        found = [json.loads((folder / name).read_text(encoding="utf-8")) for name in (SETTINGS, SUMMARY)]
    except (OSError, ValueError):
        return {}, {}
    return (found[0], found[1]) if all(isinstance(part, dict) for part in found) else ({}, {})


class _Cast(nn.Module):
    """The weights of a model in another type, for `weights_hash`; the model itself is left as it is."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.weights = {name: tensor.to(dtype) for name, tensor in model.state_dict().items()}

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self.weights


def _by_weights(model: PreTrainedModel) -> Callable[[dict[str, Any]], bool]:
    @functools.cache
    def hash_as(dtype: str) -> str:
        return weights_hash(_Cast(model, getattr(torch, dtype)))

    def is_its_own(settings: dict[str, Any]) -> bool:
        dtype = settings.get("dtype")
        known = dtype in ("float32", "bfloat16", "float16")
        return known and hash_as(dtype) == settings.get("weights_sha256")

    return is_its_own


def _rows(settings: dict[str, Any], summary: dict[str, Any]) -> list[str]:
    drawn = settings.get("temperature")
    how = f"temperature {drawn}" if drawn else "greedy"
    how = f"{how}, {settings.get('num_samples')} samples a problem" if settings.get("num_samples", 1) != 1 else how
    how = f"{how}, post-processing {summary.get('profile')}, sandbox {settings.get('sandbox')}"
    benchmark = summary.get("title", settings.get("benchmark"))
    rows = []
    for name, score in summary.get("scores", {}).items():
        value, low, high = score["value"], score["low"], score["high"]
        shown = f"{value:.3f} ({low:.3f} to {high:.3f})"
        if name.startswith("pass@"):
            shown = f"{value:.1%} ({low:.1%} to {high:.1%})"
        rows.append(f"| {benchmark} {name} | {shown} | {score['n']} problems; {how} |")
    return rows


def held_out_rows(file: Path, batch: int) -> list[str]:
    """Rows of the card: the held-out bits per byte that the run measured at the checkpoint's batch."""
    rows = []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            metrics = json.loads(line)
        except ValueError:
            continue
        if isinstance(metrics, dict) and metrics.get("batch") == batch:
            found = {key.split("/")[1:-1][-1]: value for key, value in metrics.items() if key.endswith("/BitsPerByte")}
            rows += [f"| bits per byte, {label} | {value:.3f} | held-out files |" for label, value in found.items()]
    return rows
