"""Files of JSON lines that a run adds to, each with the batch that it is of, without repeats after resuming."""

import json
from pathlib import Path
from typing import Any


def drop_later(path: Path, batch: int) -> None:
    """Drop the lines of batches that will be trained again: all of them when the run starts afresh, at batch 0."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            of = json.loads(line)["batch"]
        except (ValueError, KeyError):
            continue  # A line that a kill cut short.
        if of <= batch > 0:
            kept.append(line + "\n")
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(path)


def add_line(path: Path, fields: dict[str, Any]) -> None:
    """Add a line; the folder is made where it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(fields) + "\n")
