"""What the whole corpus is decided on: a few numbers for each kept document, in arrays without the texts."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codelm.data.globs import compile_globs
from codelm.languages import INSTRUCTIONS, LANGUAGES

STREAMS = (*sorted(LANGUAGES), INSTRUCTIONS)
"""The streams of a corpus: the languages by name, and instruction data."""
_NUMBER = {name: number for number, name in enumerate(STREAMS)}

_ARRAYS = "columns.npz"
_REPOSITORIES = "repositories.json"
UNKNOWN_TIME = -1


@dataclass(frozen=True)
class Columns:
    """One row a document."""

    digest: np.ndarray
    """uint64 (n, 2): documents with one digest have the same bytes"""
    bytes: np.ndarray
    """int64 (n,): of the text in UTF-8"""
    language: np.ndarray
    """uint8 (n,): an index of STREAMS"""
    repository: np.ndarray
    """uint64 (n,): a hash of the repository's name"""
    changed: np.ndarray
    """int64 (n,): seconds since 1970 of the last change, or UNKNOWN_TIME"""
    licence_rank: np.ndarray
    """uint8 (n,): 0 permissive, 1 another known licence, 2 unknown"""
    source: np.ndarray
    """uint16 (n,): the number of its source in the YAML"""
    names: tuple[Path, ...] = ()
    """Files with the names behind `repository`."""

    def __len__(self) -> int:
        return len(self.bytes)

    def repositories_matching(self, patterns: list[str]) -> np.ndarray:
        """Which documents are of a repository whose name matches one of the glob patterns, bool (n,)."""
        matches = compile_globs(patterns)
        wanted = {hash_name(name) for file in self.names for name in json.loads(file.read_text()) if matches(name)}
        return np.isin(self.repository, np.array(sorted(wanted), dtype=np.uint64))


def hash_name(name: str) -> int:
    """64 bits of a repository's name."""
    return int.from_bytes(hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest(), "little")


class ColumnsWriter:
    """Gathers the rows of one partition; `sources` are the keys of the sources in the YAML."""

    def __init__(self, sources: Sequence[str] = ()) -> None:
        self._sources = {key: number for number, key in enumerate(sources)}
        self._digest = bytearray()
        self._rows: list[tuple[int, int, int, int, int, int]] = []
        self._repositories: dict[str, int] = {}

    def add(
        self,
        digest: bytes,
        size: int,
        language: str,
        repository: str,
        changed: int | None,
        licence_rank: int,
        source: str = "",
    ) -> None:
        """A document's row, with the 16 bytes of its digest."""
        number = self._repositories.get(repository)
        if number is None:
            number = self._repositories[repository] = hash_name(repository)
        self._digest += digest
        when = UNKNOWN_TIME if changed is None else changed
        self._rows.append((size, _NUMBER[language], number, when, licence_rank, self._sources.get(source, 0)))

    def finish(self) -> Columns:
        """The arrays, without the names."""
        columns = zip(*self._rows, strict=True) if self._rows else ((),) * 6
        size, language, repository, changed, rank, source = columns
        return Columns(
            digest=np.frombuffer(bytes(self._digest), dtype="<u8").reshape(-1, 2),
            bytes=np.array(size, dtype=np.int64),
            language=np.array(language, dtype=np.uint8),
            repository=np.array(repository, dtype=np.uint64),
            changed=np.array(changed, dtype=np.int64),
            licence_rank=np.array(rank, dtype=np.uint8),
            source=np.array(source, dtype=np.uint16),
        )

    def save(self, folder: Path) -> None:
        """Write the partition's arrays and names."""
        columns = self.finish()
        arrays: dict[str, Any] = {name: getattr(columns, name) for name in _FIELDS}
        with (folder / _ARRAYS).open("wb") as file:
            np.savez(file, **arrays)
        (folder / _REPOSITORIES).write_text(json.dumps(list(self._repositories)), encoding="utf-8")


_FIELDS = ("digest", "bytes", "language", "repository", "changed", "licence_rank", "source")


def load_columns(folders: Sequence[Path]) -> tuple[Columns, np.ndarray]:
    """The rows of all partitions, in order, and where each partition starts: int64 (partitions + 1,)."""
    columns, start = concatenate([_load(folder) for folder in folders])
    return replace(columns, names=tuple(folder / _REPOSITORIES for folder in folders)), start


def concatenate(parts: Sequence[Columns]) -> tuple[Columns, np.ndarray]:
    """The rows of several partitions after one another, and where each starts: int64 (partitions + 1,)."""
    start = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    parts = parts or [ColumnsWriter().finish()]
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _FIELDS}
    return Columns(**arrays), start


def _load(folder: Path) -> Columns:
    with np.load(folder / _ARRAYS) as stored:
        arrays: dict[str, Any] = {name: stored[name] for name in _FIELDS}
        return Columns(**arrays)
