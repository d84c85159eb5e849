"""Rows of a benchmark's file: JSON Lines (also gzip), JSON, Parquet, local or on the Hugging Face hub."""

import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codelm.errors import EvaluationError

Row = dict[str, Any]
_HUB = "hf://datasets/"
_ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")


def read_rows(path: str, benchmark: str, parts: Sequence[str] = ()) -> list[Row]:
    """The rows of a file, in its order.

    Args:
        path: a local file, `hf://datasets/<id>`, or `hf://datasets/<id>/<file>`.
        benchmark: its name in the YAML, for the sentence when something is wrong.
        parts: of a dataset of the hub, the Parquet files whose path holds all of these.

    Raises:
        EvaluationError: the file is absent, damaged or of another kind, or the hub out of reach.
    """
    if path.startswith(_HUB):
        return _from_hub(path.removeprefix(_HUB), benchmark, parts)
    file = Path(path).expanduser()
    if not file.is_file():
        raise EvaluationError(f"tasks.{benchmark}.path: there is no file {file}; give the path of {_kinds()}")
    return _read(file, f"tasks.{benchmark}.path: {file}")


def field(row: Row, names: Sequence[str], where: str) -> Any:
    """The first of some fields that a row has.

    Raises:
        EvaluationError: when it has none of them.
    """
    for name in names:
        if row.get(name) is not None:
            return row[name]
    raise EvaluationError(f"{where} has no field `{'` or `'.join(names)}`: it is another benchmark's file, or damaged")


def _kinds() -> str:
    return f"a {', '.join(_ENDINGS[:-1])} or {_ENDINGS[-1]} file"


def _read(file: Path, where: str) -> list[Row]:
    name = file.name
    if not name.endswith(_ENDINGS):
        raise EvaluationError(f"{where} is not {_kinds()}")
    try:
        if name.endswith(".parquet"):
            rows = _parquet(file)
        else:
            data = file.read_bytes()
            text = (gzip.decompress(data) if name.endswith(".gz") else data).decode("utf-8")
            # Not splitlines(), which also splits at characters that JSON leaves as they are.
            lines = [line for line in text.split("\n") if line.strip()]
            rows = json.loads(text) if name.endswith(".json") else [json.loads(line) for line in lines]
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise EvaluationError(f"{where} cannot be read ({error}); copy it again") from None
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise EvaluationError(f"{where} holds no problems: a JSON object for each is needed")
    return rows


def _parquet(file: Path) -> list[Row]:
    # Few benchmarks are Parquet, and every training run imports this module.
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(file).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from None


def _from_hub(place: str, benchmark: str, parts: Sequence[str]) -> list[Row]:
    import huggingface_hub  # slow, and most benchmarks are files

    owner, repository, *rest = [*place.split("/"), ""]
    dataset, name = f"{owner}/{repository}", "/".join(rest).removesuffix("/")
    where = f"tasks.{benchmark}.path: {_HUB}{place}"
    try:
        names = [name] if name else huggingface_hub.list_repo_files(dataset, repo_type="dataset")
        chosen = sorted(n for n in names if n.endswith(_ENDINGS) and (name or all(part in n for part in parts)))
        files = [Path(huggingface_hub.hf_hub_download(dataset, n, repo_type="dataset")) for n in chosen]
    except Exception as error:  # whatever its HTTP library raises, which is another one in each of its versions
        first_line = " ".join([f"{type(error).__name__}:", *str(error).strip().splitlines()[:1]])
        raise EvaluationError(
            f"{where} cannot be had from the hub ({first_line}); download the file and give its path"
        ) from None
    if not files:
        raise EvaluationError(f"{where} has no file of {' and '.join(parts)}; give the path of a file")
    return [row for file in files for row in _read(file, where)]
