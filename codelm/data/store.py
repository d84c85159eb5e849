"""The pipeline's intermediate files: partitions of the corpus as plans, documents and tokens, in the work folder.

A partition is some 8 MB of files in the order of the sources. It is the unit of work and of resumption, and its
bounds depend on the sources alone, so that any number of workers writes the same bytes.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from codelm.config.data import InstructionsSource, RecordsSource
from codelm.data.documents import Document, FileEntry, Repository
from codelm.data.rules.gitattributes import NOTHING_SAID, Attributes
from codelm.data.shards import flush_to_disk

PARTITION_BYTES = 8 << 20

Plan = list[tuple[Repository, list[FileEntry]]]
"""The files of one partition, grouped by repository."""


@dataclass(frozen=True)
class Record:
    """What is known of a kept document without its text."""

    repository: str
    commit: str | None
    path: str
    language: str
    licence: str | None
    blob: str
    digest: str
    bytes: int
    trained: list[list[int]] | None = None
    """The character ranges [first, end] that the loss is computed on; None: the whole text."""
    source: str = ""


def partition(files: Iterable[tuple[Repository, FileEntry]], partition_bytes: int = PARTITION_BYTES) -> Iterator[Plan]:
    """Cut the files into partitions of about `partition_bytes` bytes."""
    plan: Plan = []
    size = 0
    for repository, file in files:
        if size and size + file.size > partition_bytes:
            yield plan
            plan, size = [], 0
        if not plan or plan[-1][0] != repository:
            plan.append((repository, []))
        plan[-1][1].append(file)
        size += file.size
    if plan:
        yield plan


def plan_bytes(plan: Plan) -> int:
    return sum(file.size for _, files in plan for file in files)


def save_plan(plan: Plan, file: Path) -> None:
    rows = [[_repository_fields(repository), [_entry_fields(entry) for entry in files]] for repository, files in plan]
    file.write_text(json.dumps(rows), encoding="utf-8")


def load_plan(file: Path) -> Plan:
    rows = json.loads(file.read_text(encoding="utf-8"))
    return [(_repository(fields), [_entry(*entry) for entry in files]) for fields, files in rows]


def _entry_fields(entry: FileEntry) -> list[Any]:
    said = asdict(entry.attributes) if entry.attributes != NOTHING_SAID else None
    part = [entry.first, entry.end, entry.rows]
    return [entry.path, entry.size, entry.object_id, entry.changed, *part, said, entry.licence]


def _entry(*fields: Any) -> FileEntry:
    *known, said, licence = fields
    return FileEntry(*known, attributes=Attributes(**said) if said else NOTHING_SAID, licence=licence)


def _repository_fields(repository: Repository) -> dict[str, Any]:
    rows = repository.rows.model_dump() if repository.rows is not None else None
    return {
        "name": repository.name,
        "root": repository.root,
        "commit": repository.commit,
        "licence": repository.licence,
        "rows": rows,
        "source": repository.source,
    }


def _repository(fields: dict[str, Any]) -> Repository:
    rows = fields.pop("rows")
    section = {"records": RecordsSource, "instructions": InstructionsSource}.get(rows["name"]) if rows else None
    return Repository(**fields, rows=section.model_validate(rows) if section else None)


class DocumentWriter:
    """Writes documents as `texts` (their UTF-8, one after another) and `records.jsonl` (a line each)."""

    def __init__(self, folder: Path) -> None:
        self._texts: BinaryIO = (folder / "texts").open("wb")
        self._records: TextIO = (folder / "records.jsonl").open("w", encoding="utf-8")

    def write(self, document: Document) -> int:
        """Returns the bytes of the text."""
        text = document.text.encode()
        self._texts.write(text)
        self._records.write(json_line(vars(record_of(document, len(text)))))
        return len(text)

    def close(self) -> None:
        flush_to_disk(self._texts)
        self._records.flush()
        flush_to_disk(self._records.buffer)  # type: ignore[arg-type]
        self._texts.close()
        self._records.close()


def record_of(document: Document, size: int) -> Record:
    return Record(
        repository=document.repository,
        commit=document.commit,
        path=document.path,
        language=document.language,
        licence=document.licence,
        blob=document.blob,
        digest=document.digest.hex(),
        bytes=size,
        trained=None if document.trained is None else [list(span) for span in document.trained],
        source=document.source,
    )


def read_records(folder: Path) -> Iterator[Record]:
    """The records of a partition, in order."""
    with (folder / "records.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield Record(**json.loads(line))


def read_texts(folder: Path, wanted: Iterable[bool]) -> Iterator[tuple[Record, str]]:
    """The wanted documents of a partition, in order; texts that are not wanted are skipped, not read."""
    with (folder / "texts").open("rb") as texts:
        for record, take in zip(read_records(folder), wanted, strict=True):
            if take:
                yield record, texts.read(record.bytes).decode()
            else:
                texts.seek(record.bytes, 1)


_encode = json.JSONEncoder(check_circular=False).encode


def json_line(value: dict[str, Any]) -> str:
    """A line of JSON Lines. Every stage writes one a file, and `json.dumps` takes twice the time."""
    return _encode(value) + "\n"


def write_json(value: Any, file: Path) -> None:
    file.write_text(json.dumps(value), encoding="utf-8")


def read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
