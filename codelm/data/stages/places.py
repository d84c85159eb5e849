"""Where each stage leaves what it made, and whether the stage before has ended."""

from pathlib import Path
from typing import Literal

from codelm.data.store import read_json
from codelm.data.workspace import Workspace
from codelm.errors import DataError


def documents_folder(space: Workspace, index: int) -> Path:
    """Where the documents of a partition are."""
    return space.work / "documents" / f"{index:05}"


def tokens_folder(space: Workspace, index: int) -> Path:
    """Where the token ids of a partition are."""
    return space.work / "tokens" / f"{index:05}"


def summary_file(space: Workspace, split: str, language: str) -> Path:
    """Where the figures of a stream that is packed are."""
    return space.work / "packed" / f"{split}.{language}.json"


def require(space: Workspace, what: Literal["plan", "documents", "tokens"]) -> list[int]:
    """The sizes of all partitions in bytes of candidate files, when `what` is there of every one.

    Raises:
        DataError: when a job that should have made it is not done.
    """
    summary = space.work / "plan" / "summary.json"
    if not summary.exists():
        raise DataError(f"{space.output}: the stage list has not ended; run it first (`--stage list`)")
    sizes = read_json(summary)["sizes"]
    stage = {"documents": "read", "tokens": "tokenise"}.get(what)
    missing = [index for index in range(len(sizes)) if stage and not (space.work / what / f"{index:05}").exists()]
    if missing:
        raise DataError(
            f"{space.output}: the stage {stage} has not ended, {len(missing)} of {len(sizes)} partitions are missing;"
            f" run its jobs again (`--stage {stage}`)"
        )
    return sizes
