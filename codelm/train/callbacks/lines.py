"""Files of JSON lines that a run adds to, each with the batch that it is of, without repeats after resuming."""

import json
import logging
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_refused: dict[Path, list[str]] = {}
"""Lines that a full disk did not take, by their file."""


def drop_later(path: Path, batch: int) -> None:
    """Drop the lines of batches that will be trained again: all of them when the run starts afresh, at batch 0."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            of = json.loads(line)["batch"]
        except (ValueError, KeyError, TypeError):
            continue  # A line that a kill cut short, or that another hand wrote.
        if isinstance(of, int) and of <= batch > 0:
            kept.append(line + "\n")
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text("".join(kept), encoding="utf-8")
    temporary.replace(path)


def add_line(path: Path, fields: dict[str, Any]) -> None:
    """Add a line; the folder is made where it is not there.

    What a full disk refuses waits in memory and is written before the next line: a metric is no reason to end a run.
    """
    waiting = _refused.setdefault(path, [])
    waiting.append(json.dumps(fields) + "\n")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _append(path, "".join(waiting).encode())
    except OSError as error:
        if len(waiting) == 1:
            log.warning("%s cannot be written (%s); its lines wait in memory", path, error.strerror)
    else:
        waiting.clear()


def _append(path: Path, text: bytes) -> None:
    """Append all of a text or nothing."""
    with path.open("ab", buffering=0) as file:
        before, written = file.tell(), 0
        try:
            while written < len(text):
                written += file.write(text[written:])
        except OSError:
            file.truncate(before)
            raise
