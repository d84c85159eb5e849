"""An audit of one model: files of the corpus it was trained on, files held out of it, and canaries; resumable."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from codelm.eval import results
from codelm.eval.memorisation.canaries import Canary
from codelm.eval.memorisation.exposure import expose
from codelm.eval.memorisation.extraction import Lengths, extract
from codelm.eval.memorisation.passages import CorpusTexts
from codelm.eval.prompts import Tokenizer
from codelm.eval.run import Progress, weights_hash

EXTRACTION, EXPOSURE = "extraction.jsonl", "exposure.jsonl"
_CHARACTERS = 8
"""Of a token at most, usually: a file with so many for each token that is asked for is long enough."""


@dataclass(frozen=True)
class AuditOptions:
    """How large an audit is.

    Attributes:
        files: drawn from the training split, and as many from the split held out of it.
        candidates: secrets that each canary is compared with.
    """

    lengths: Lengths = field(default_factory=Lengths)
    files: int = 200
    candidates: int = 255
    seed: int = 0
    batch_size: int = 16


def audit(
    model: nn.Module,
    tokenizer: Tokenizer,
    corpus: CorpusTexts,
    canaries: Sequence[Canary],
    folder: Path,
    checkpoint: str,
    options: AuditOptions = AuditOptions(),
    progress: Progress | None = None,
) -> None:
    """Leave extraction.jsonl and exposure.jsonl in a folder; what is there already is not done again.

    Raises:
        EvaluationError: the folder holds another audit.
    """
    results.open_folder(folder, settings_of(corpus, canaries, checkpoint, options, weights_hash(model)))
    splits = ["train", corpus.untrained_split()]
    planted = {name for canary in canaries for name in canary.files()}
    least = _CHARACTERS * options.lengths.whole
    passages = [
        passage
        for split in filter(None, splits)
        for passage in corpus.draw(split, options.files, least, options.seed, planted)
    ]
    done = _done(folder / EXTRACTION)
    extract(
        model, tokenizer, passages, options.lengths, done,
        _keeper(folder / EXTRACTION, done, "memorised files", len(passages), progress), options.batch_size,
    )  # fmt: skip
    done = _done(folder / EXPOSURE)
    keep = _keeper(folder / EXPOSURE, done, "canaries", len(canaries), progress)
    expose(model, tokenizer, canaries, options.candidates, done, keep)


def settings_of(
    corpus: CorpusTexts, canaries: Sequence[Canary], checkpoint: str, options: AuditOptions, weights: str
) -> dict[str, Any]:
    """What everything in the folder belongs to."""
    return {
        "audit": 1,
        "checkpoint": checkpoint,
        "weights_sha256": weights,
        "corpus": corpus.manifest.hash,
        "canaries_sha256": results.text_hash(repr([asdict(canary) for canary in canaries])),
        **asdict(options),
    }


def _done(file: Path) -> dict[str, dict[str, Any]]:
    return {row["task_id"]: row for row in results.read_lines(file)}


def _keeper(
    file: Path, done: dict[str, dict[str, Any]], stage: str, total: int, progress: Progress | None
) -> Callable[[dict[str, Any]], None]:
    def keep(row: dict[str, Any]) -> None:
        results.append_line(file, row)
        done[row["task_id"]] = row
        if progress:
            progress(stage, len(done), total)

    return keep
