"""The manifest: what is masked, what judges it, and what training must not see; JSONL, a line a function or file.

A line about a function holds its head and docstring as `prompt` and its body as `canonical_solution`, a line about a
held-out file its text as `solution`: names under which `decontamination.benchmarks` of data preparation looks for them,
so the manifest's path is all that data preparation needs.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from codelm.errors import EvaluationError
from codelm.eval import results
from codelm.eval.repository.candidates import Function
from codelm.eval.repository.context import Snippet
from codelm.eval.repository.copy import Repository
from codelm.eval.repository.gates import Gated
from codelm.eval.repository.masks import Mask

MANIFEST, BENCHMARK, ARCHIVE = "manifest.jsonl", "benchmark.json", "repository.tar.gz"
VERSION = 1


def function_row(
    repository: Repository, function: Function, kept: list[tuple[Mask, Gated]], context: list[Snippet]
) -> dict[str, Any]:
    """The line of a function of which masks were kept."""
    source = function.source
    return {
        "benchmark": repository.name,
        "task_id": function.id,
        "row": "function",
        "language": "python",
        "path": source.path,
        "name": function.name,
        "head": function.head,
        **origin_of(repository),
        "prompt": source.between(function.head, function.first - 1),
        "canonical_solution": source.between(function.first, function.last),
        "masks": [
            {
                "id": mask.id,
                "kind": mask.kind,
                "first": mask.first,
                "last": mask.last,
                "covering": list(mask.tests),
                "gates": gated.to_dict(),
            }
            for mask, gated in kept
        ],
        "context": [snippet.to_dict() for snippet in context],
    }


def origin_of(repository: Repository) -> dict[str, Any]:
    """Where a line's code comes from; `dirty` only where the files are not the commit's."""
    origin: dict[str, Any] = {"commit": repository.commit, "licence": repository.licence}
    return {**origin, "dirty": True} if repository.dirty else origin


def write(folder: Path, rows: Iterable[dict[str, Any]], about: dict[str, Any]) -> None:
    """Write the manifest, then what it belongs to."""
    rows = list(rows)
    results.write_lines(folder / MANIFEST, rows)
    digest = hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    results.write_json(folder / BENCHMARK, {"version": VERSION, **about, "manifest_sha256": digest})


def read(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a benchmark is about, and the lines of its manifest.

    Raises:
        EvaluationError: the folder holds no finished benchmark, or the manifest was changed.
    """
    try:
        about = json.loads((folder / BENCHMARK).read_text(encoding="utf-8"))
        data = (folder / MANIFEST).read_bytes()
    except (OSError, ValueError):
        raise EvaluationError(
            f"{folder} holds no finished benchmark; build it with `python eval/build_repo_benchmark.py REPOSITORY -o"
            f" {folder}`"
        ) from None
    if about.get("version") != VERSION:
        raise EvaluationError(f"{folder} was built by another version of codelm; build it again")
    if hashlib.sha256(data).hexdigest() != about["manifest_sha256"]:
        raise EvaluationError(f"{folder / MANIFEST} is not the file that was built; copy the folder again")
    return about, [json.loads(line) for line in data.splitlines()]
