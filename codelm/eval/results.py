"""The files of one evaluation: settings, samples, verdicts, summary; written whole or appended line by line, resumable.

`settings.json` comes first and says what everything else belongs to. A second run with the same settings goes on where
the first one stopped; one with others is refused and changes nothing. Several ranks append to files of their own, which
the first one puts together at the end.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from codelm.errors import EvaluationError

SETTINGS, SAMPLES, GOLD, SUMMARY = "settings.json", "samples.jsonl", "gold.jsonl", "summary.json"
LIKENESS = "likeness.jsonl"
_VERDICTS = "verdicts."


def open_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Make the folder of an evaluation, or find that it is the same evaluation's.

    Raises:
        EvaluationError: when the folder holds another evaluation, naming what differs, or something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if not path.exists():
        strangers = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
        if strangers:
            raise EvaluationError(
                f"{folder} is not empty ({strangers[0]}) and holds no {SETTINGS}: give another output_folder"
            )
        write_json(path, settings)
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise EvaluationError(f"{path} is damaged: give another output_folder, or delete this one") from None
    differences = list(_differences(stored, json.loads(json.dumps(settings))))
    if differences:
        raise EvaluationError(
            f"{folder} holds another evaluation ({'; '.join(differences)}): give another output_folder, or delete it"
        )


def _differences(stored: Any, asked: Any, key: str = "") -> Iterator[str]:
    if isinstance(stored, dict) and isinstance(asked, dict):
        for name in sorted(stored.keys() | asked.keys()):
            yield from _differences(stored.get(name), asked.get(name), f"{key}.{name}" if key else name)
    elif stored != asked:
        yield f"{key} was {stored}, now {asked}"


def verdicts_file(folder: Path, profile: str) -> Path:
    """Where the verdicts under a profile (its name and version) are kept."""
    return folder / f"{_VERDICTS}{profile}.jsonl"


def other_verdicts(folder: Path, profile: str) -> list[Path]:
    """The files of verdicts under other profiles."""
    return sorted(set(folder.glob(f"{_VERDICTS}*.jsonl")) - {verdicts_file(folder, profile)})


def of_rank(path: Path, rank: int) -> Path:
    """A rank's own file beside the first one's."""
    return path if rank == 0 else path.with_name(f"{path.stem}.rank{rank}{path.suffix}")


def read_all_ranks(path: Path) -> list[dict[str, Any]]:
    """The lines of a file and of what other ranks wrote beside it."""
    others = sorted(path.parent.glob(f"{path.stem}.rank*{path.suffix}"))
    return [row for file in (path, *others) for row in read_lines(file)]


def gather_ranks(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the rows of all ranks as one file; theirs go."""
    write_lines(path, rows)
    for other in path.parent.glob(f"{path.stem}.rank*{path.suffix}"):
        other.unlink()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; none when it is absent. A torn last line, left by a kill, is cut off.

    Raises:
        EvaluationError: for a damaged line before the last.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) < len(data):
        with path.open("r+b") as file:
            file.truncate(len(whole))
    rows = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except ValueError:
            raise EvaluationError(f"{path}:{number} is no JSON: delete the folder and run again") from None
    return rows


def append_line(path: Path, row: dict[str, Any]) -> None:
    """Add one line, in a single write."""
    with path.open("ab", buffering=0) as file:
        file.write(json.dumps(row).encode() + b"\n")


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a whole JSONL file, atomically."""
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """A JSON file's value."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_text(path: Path, text: str) -> None:
    """Write a text file, atomically."""
    _write(path, text)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, atomically."""
    _write(path, json.dumps(value, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def text_hash(text: str) -> str:
    """SHA-256 of a text, lone surrogates included."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
