"""Shards on disk: fixed-length rows of token ids in the MDS layout, written once; `reading` reads them.

A shard folder holds `index.json` and `shard.00000.mds` …, as mosaicml-streaming writes and reads them, with a column
`tokens` encoded as `ndarray:uint16:<max_seq_len>` (uint32 for vocabularies above 65,536). A shard file is:
the number of samples n (uint32), n + 1 byte offsets of the samples (uint32), a JSON description, the samples.
Where some tokens have no loss there is a second column `loss_mask`, `ndarray:uint8:<max_seq_len>`: 1 where the loss
counts the prediction of the token. MDS keeps columns in the order of their names, so a sample's mask comes before its
tokens; columns of a fixed size follow one another without a prefix.
"""

import functools
import hashlib
import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self

import numpy as np

from codelm.errors import DataError

INDEX_FILE = "index.json"
COLUMN = "tokens"
MASK_COLUMN = "loss_mask"
MASK_DTYPE = np.dtype(np.uint8)
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
    """Writes rows as shards of at most `shard_bytes` bytes of rows; cuts a stream of tokens into rows, if asked.

    The rows go straight to disk; `close` writes `index.json` last, so a folder with one is whole.
    """

    def __init__(
        self, folder: str | Path, max_seq_len: int, dtype: np.dtype, shard_bytes: int, loss_mask: bool = False
    ) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.max_seq_len = max_seq_len
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.loss_mask = loss_mask
        self.row_bytes = max_seq_len * (self.dtype.itemsize + loss_mask)
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
        """Append tokens, shape (n,), to the stream that is cut into rows; without a loss mask only."""
        stream = np.concatenate([self._tail, tokens.astype(self.dtype, copy=False)])
        whole = len(stream) // self.max_seq_len
        self._tail = stream[whole * self.max_seq_len :].copy()
        self.write_rows(stream[: whole * self.max_seq_len].reshape(whole, self.max_seq_len))

    def write_rows(self, rows: np.ndarray, loss_mask: np.ndarray | None = None) -> None:
        """Append whole rows, shape (n, max_seq_len), and their loss mask of the same shape if the shards have one."""
        assert (loss_mask is not None) == self.loss_mask, "shards have a loss mask in every row, or in none"
        while len(rows):
            room = self.rows_per_shard - self._rows
            self._append(rows[:room], None if loss_mask is None else loss_mask[:room])
            rows = rows[room:]
            loss_mask = None if loss_mask is None else loss_mask[room:]

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

    def _append(self, rows: np.ndarray, loss_mask: np.ndarray | None) -> None:
        if self._body is None:
            self._body = (self.folder / ".rows.tmp").open("w+b")
        samples = np.ascontiguousarray(rows.astype(self.dtype, copy=False))
        if loss_mask is not None:
            samples = np.hstack([loss_mask.astype(MASK_DTYPE, copy=False), samples.view(np.uint8)])
        self._body.write(samples.data)
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
        # Spaces after the JSON bring the first row to the beginning of a cache line, for those who map the file.
        description += b" " * (-before_rows % _ALIGNMENT)
        first = 4 + 4 * (samples + 1) + len(description)
        offsets = first + self.row_bytes * np.arange(samples + 1, dtype=np.int64)
        return np.uint32(samples).tobytes() + offsets.astype("<u4").tobytes() + description

    def _layout(self) -> dict[str, Any]:
        columns = {COLUMN: self.dtype, **({MASK_COLUMN: MASK_DTYPE} if self.loss_mask else {})}
        return {
            "column_encodings": [f"ndarray:{columns[name].name}:{self.max_seq_len}" for name in sorted(columns)],
            "column_names": sorted(columns),
            "column_sizes": [self.max_seq_len * columns[name].itemsize for name in sorted(columns)],
            "compression": None,
            "format": "mds",
            "hashes": ["sha256"],
            "size_limit": None,
            "version": 2,
        }

    def _index_entry(self, shard: ShardInfo) -> dict[str, Any]:
        raw = {"basename": shard.file, "bytes": shard.bytes, "hashes": {"sha256": shard.sha256}}
        return {**self._layout(), "raw_data": raw, "samples": shard.samples, "zip_data": None}


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
