"""Shards on disk: fixed-length rows of token ids in the MDS layout, written once, read through memory maps.

A shard folder holds `index.json` and `shard.00000.mds` …, as mosaicml-streaming writes and reads them, with one column
`tokens` encoded as `ndarray:uint16:<max_seq_len>` (uint32 for vocabularies above 65,536). A shard file is:
the number of samples n (uint32), n + 1 byte offsets of the samples (uint32), a JSON description, the samples.
"""

import functools
import hashlib
import itertools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from codelm.errors import DataError

INDEX_FILE = "index.json"
COLUMN = "tokens"
_ALIGNMENT = 64
_LARGEST_SHARD = 2**32 - 1


def token_dtype(vocab_size: int) -> np.dtype:
    """The dtype of the token ids of a vocabulary: uint16, or uint32 above 65,536 tokens."""
    return np.dtype(np.uint16 if vocab_size <= 65_536 else np.uint32)


@dataclass(frozen=True)
class ShardInfo:
    """One shard file as the manifest records it."""

    file: str
    bytes: int
    samples: int
    sha256: str


class ShardWriter:
    """Cuts a stream of tokens into rows and writes them as shards of at most `shard_bytes` bytes of rows.

    The rows go straight to disk; `close` writes `index.json` last, so a folder with one is whole.
    """

    def __init__(self, folder: str | Path, max_seq_len: int, dtype: np.dtype, shard_bytes: int) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.max_seq_len = max_seq_len
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.row_bytes = max_seq_len * self.dtype.itemsize
        self.rows_per_shard = max(1, min(shard_bytes, _LARGEST_SHARD // 2) // self.row_bytes)
        self.shards: list[ShardInfo] = []
        self._tail = np.empty(0, self.dtype)
        self._rows = 0
        self._body: BinaryIO | None = None

    @property
    def samples(self) -> int:
        return sum(shard.samples for shard in self.shards) + self._rows

    @property
    def leftover(self) -> int:
        """Tokens after the last whole row: they are never written."""
        return len(self._tail)

    def write(self, tokens: np.ndarray) -> None:
        """Append tokens, shape (n,), to the stream."""
        stream = np.concatenate([self._tail, tokens.astype(self.dtype, copy=False)])
        whole = len(stream) // self.max_seq_len
        rows = stream[: whole * self.max_seq_len].reshape(whole, self.max_seq_len)
        self._tail = stream[whole * self.max_seq_len :].copy()
        while len(rows):
            room = self.rows_per_shard - self._rows
            self._append(rows[:room])
            rows = rows[room:]

    def close(self) -> list[ShardInfo]:
        """Finish the last shard and write `index.json`; the folder is whole afterwards."""
        self._finish_shard()
        entries = [self._index_entry(shard) for shard in self.shards]
        index = json.dumps({"shards": entries, "version": 2}, sort_keys=True)
        write_atomically(self.folder / INDEX_FILE, index.encode())
        return self.shards

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is None:
            self.close()
        elif self._body is not None:
            self._body.close()

    def _append(self, rows: np.ndarray) -> None:
        if self._body is None:
            self._body = (self.folder / ".rows.tmp").open("w+b")
        self._body.write(np.ascontiguousarray(rows).data)
        self._rows += len(rows)
        if self._rows == self.rows_per_shard:
            self._finish_shard()

    def _finish_shard(self) -> None:
        if self._body is None:
            return
        # The header's length depends on the number of rows, so the rows wait in a file of their own.
        name = f"shard.{len(self.shards):05}.mds"
        digest, size = hashlib.sha256(), 0
        self._body.seek(0)
        with (self.folder / f".{name}.tmp").open("wb") as file:
            header = self._header(self._rows)
            for block in itertools.chain([header], iter(functools.partial(self._body.read, 1 << 20), b"")):
                file.write(block)
                digest.update(block)
                size += len(block)
            flush_to_disk(file)
        os.replace(self.folder / f".{name}.tmp", self.folder / name)
        self._body.close()
        (self.folder / ".rows.tmp").unlink()
        self.shards.append(ShardInfo(name, size, self._rows, digest.hexdigest()))
        self._body, self._rows = None, 0

    def _header(self, samples: int) -> bytes:
        description = json.dumps(self._layout(), sort_keys=True).encode()
        before_rows = 4 + 4 * (samples + 1) + len(description)
        # Spaces after the JSON bring the first row to an aligned address in the memory map.
        description += b" " * (-before_rows % _ALIGNMENT)
        first = 4 + 4 * (samples + 1) + len(description)
        offsets = first + self.row_bytes * np.arange(samples + 1, dtype=np.int64)
        return np.uint32(samples).tobytes() + offsets.astype("<u4").tobytes() + description

    def _layout(self) -> dict[str, Any]:
        return {
            "column_encodings": [f"ndarray:{self.dtype.name}:{self.max_seq_len}"],
            "column_names": [COLUMN],
            "column_sizes": [self.row_bytes],
            "compression": None,
            "format": "mds",
            "hashes": ["sha256"],
            "size_limit": None,
            "version": 2,
        }

    def _index_entry(self, shard: ShardInfo) -> dict[str, Any]:
        raw = {"basename": shard.file, "bytes": shard.bytes, "hashes": {"sha256": shard.sha256}}
        return {**self._layout(), "raw_data": raw, "samples": shard.samples, "zip_data": None}


class ShardReader:
    """The samples of one language of one split: `reader[i]` is a row of token ids, shape (max_seq_len,), read-only.

    Opening checks every file's presence and size; rows are read from memory maps, opened at first use.

    Args:
        folder: the output folder of data_prep (or any folder that holds `<split>/<language>/index.json`).

    Raises:
        DataError: when the index or a shard is absent, cut short, or not of one row length.
    """

    def __init__(self, folder: str | Path, split: str, language: str) -> None:
        self.folder = Path(folder) / split / language
        shards = _read_index(self.folder)
        self.dtype, self.max_seq_len = _row_type(self.folder, shards)
        self._files = [self.folder / shard.file for shard in shards]
        for file, shard in zip(self._files, shards, strict=True):
            check_size(file, shard.bytes)
        self._first = np.cumsum([0, *(shard.samples for shard in shards)])
        self._maps: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int, /) -> np.ndarray:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)} in {self.folder}")
        shard = int(np.searchsorted(self._first, index, side="right")) - 1
        return self._rows(shard)[index - self._first[shard]]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def _rows(self, shard: int) -> np.ndarray:
        """A shard's samples through a memory map: (samples, max_seq_len)."""
        if shard not in self._maps:
            self._maps[shard] = self._map(self._files[shard], int(self._first[shard + 1] - self._first[shard]))
        return self._maps[shard]

    def _map(self, file: Path, samples: int) -> np.ndarray:
        raw = np.memmap(file, mode="r")
        row_bytes = self.max_seq_len * self.dtype.itemsize
        stored = int(raw[:4].view("<u4")[0])
        first = int(raw[4:8].view("<u4")[0])
        if stored != samples or first + samples * row_bytes != len(raw):
            raise DataError(
                f"the shard {file} does not hold the {samples} samples that its {INDEX_FILE} names;"
                " delete the folder and prepare the data again"
            )
        return np.frombuffer(raw, self.dtype, samples * self.max_seq_len, offset=first).reshape(samples, -1)


@dataclass(frozen=True)
class _Entry:
    """One shard of an `index.json`, whoever wrote it."""

    file: str
    bytes: int
    samples: int
    kind: str
    """Its format, compression and column encodings in one string."""


def _read_index(folder: Path) -> list[_Entry]:
    file = folder / INDEX_FILE
    try:
        shards = json.loads(file.read_text(encoding="utf-8"))["shards"]
        return [
            _Entry(
                file=Path(shard["raw_data"]["basename"]).name,
                bytes=int(shard["raw_data"]["bytes"]),
                samples=int(shard["samples"]),
                kind=" ".join([shard["format"], shard["compression"] or "raw", *shard["column_encodings"]]),
            )
            for shard in shards
        ]
    except FileNotFoundError:
        raise DataError(f"there are no shards at {folder} ({INDEX_FILE} is absent); run data_prep/main.py") from None
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{file} is damaged; delete the folder and prepare the data again") from None


_KIND = re.compile(r"mds raw ndarray:(u?int\d+):(\d+)")


def _row_type(folder: Path, shards: list[_Entry]) -> tuple[np.dtype, int]:
    """The one dtype and row length of all shards of an index."""
    if not shards:
        return np.dtype("<u2"), 0
    kinds = sorted({shard.kind for shard in shards})
    match = _KIND.fullmatch(kinds[0])
    if len(kinds) > 1 or match is None:
        raise DataError(
            f"the shards in {folder} are not uncompressed MDS with one column `ndarray:<dtype>:<length>`"
            f" (found: {'; '.join(kinds)}); write them with data_prep/main.py"
        )
    return np.dtype(match[1]).newbyteorder("<"), int(match[2])


def check_size(file: Path, size: int) -> None:
    """Compare a shard's size with the recorded one.

    Raises:
        DataError: when the file is absent, or cut short.
    """
    try:
        found = file.stat().st_size
    except FileNotFoundError:
        raise DataError(f"the shard {file} is missing; delete its folder and prepare the data again") from None
    if found != size:
        kind = "truncated" if found < size else "too long"
        raise DataError(
            f"the shard {file} is {kind}: {found:,} bytes instead of {size:,};"
            " restore it, or delete the output folder and prepare the data again"
        )


def flush_to_disk(file: BinaryIO) -> None:
    """Make sure that a rename that follows cannot outlive the contents in a crash of the machine."""
    file.flush()
    os.fsync(file.fileno())


def write_atomically(file: Path, content: bytes) -> None:
    """Write under a temporary name, then rename: a file under its own name is always whole."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            flush_to_disk(stream)
        os.replace(temporary, file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
