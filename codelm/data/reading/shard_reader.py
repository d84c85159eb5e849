"""Shards read back: the samples of one language of one split by number.

Rows are read with `pread`, not through memory maps: a process's memory stays flat however large the corpus, a file
that is cut short or evicted under a reader gives a sentence instead of a signal, and few files are open at a time.
"""

import json
import os
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codelm.data.shards import COLUMN, INDEX_FILE, MASK_COLUMN, check_size
from codelm.errors import DataError

# Some forty streams may be read at once, and a process may often open no more than 1,024 files.
_OPEN_FILES = 16


class Rows(NamedTuple):
    """Samples: token ids of shape (n, max_seq_len), and where the loss counts (uint8, the same shape) if that is said.

    A mask of None counts everywhere. The arrays may be read-only, and views of one another.
    """

    tokens: np.ndarray
    loss_mask: np.ndarray | None


@dataclass(frozen=True)
class ShardEntry:
    """One shard of an `index.json`, whoever wrote it."""

    file: str
    bytes: int
    samples: int
    kind: str
    """Its format, compression, and column names and encodings in one string."""


@dataclass(frozen=True)
class RowLayout:
    """Where the columns stand in a sample of `bytes` bytes."""

    dtype: np.dtype
    max_seq_len: int
    bytes: int
    tokens_at: int
    mask_at: int | None


class ShardReader:
    """The samples of one language of one split: `reader[i]` is a row of token ids, shape (max_seq_len,), read-only.

    Opening checks every file's presence and size; files are opened at first use. A reader may be forked and pickled.

    Args:
        folder: the output folder of data_prep (or any folder that holds `<split>/<language>/index.json`).

    Raises:
        DataError: when the index or a shard is absent, cut short, or not of one row length.
    """

    def __init__(self, folder: str | Path, split: str, language: str) -> None:
        self.folder = Path(folder) / split / language
        file = self.folder / INDEX_FILE
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise DataError(
                f"there are no shards at {self.folder} ({INDEX_FILE} is absent); run data_prep/main.py"
            ) from None
        self._adopt(parse_index(text, str(file)), str(self.folder))
        for entry in self._entries:
            check_size(self.folder / entry.file, entry.bytes)

    def _adopt(self, entries: Sequence[ShardEntry], where: str) -> None:
        self._entries = tuple(entries)
        self.layout = row_layout(entries, where)
        self._first = np.cumsum([0, *(entry.samples for entry in entries)])
        self._files: dict[int, int] = {}

    @property
    def dtype(self) -> np.dtype:
        return self.layout.dtype

    @property
    def max_seq_len(self) -> int:
        return self.layout.max_seq_len

    @property
    def has_loss_mask(self) -> bool:
        return self.layout.mask_at is not None

    @property
    def shard_samples(self) -> tuple[int, ...]:
        """The number of samples of each shard."""
        return tuple(entry.samples for entry in self._entries)

    @property
    def remote_bytes(self) -> tuple[int, ...]:
        """The bytes of each shard that must be fetched before it is read; a local folder has none."""
        return ()

    def __len__(self) -> int:
        return int(self._first[-1])

    def __getitem__(self, index: int, /) -> np.ndarray:
        return self.read([index]).tokens[0]

    def read(self, indices: Sequence[int] | np.ndarray) -> Rows:
        """The samples of these numbers, in their order.

        Raises:
            DataError: a shard does not hold what its index says.
        """
        numbers = np.asarray(indices, np.int64)
        outside = numbers[(numbers < 0) | (numbers >= len(self))]
        if len(outside):
            raise IndexError(f"sample {outside[0]} of {len(self)} in {self.folder}")
        layout = self.layout
        raw = np.empty((len(numbers), layout.bytes), np.uint8)
        shards = np.searchsorted(self._first, numbers, side="right") - 1
        inside = numbers - self._first[shards]
        # Shard by shard, so that each is opened once.
        for row in np.argsort(shards, kind="stable").tolist():
            shard = int(shards[row])
            start = self._rows_at(shard) + int(inside[row]) * layout.bytes
            if os.preadv(self._file(shard), [raw[row].data], start) != layout.bytes:
                raise DataError(
                    f"the shard {self._path(shard)} was cut short while it was read; restore it, or delete the output"
                    " folder and prepare the data again"
                )
        raw.flags.writeable = False
        width = layout.max_seq_len * layout.dtype.itemsize
        tokens = raw[:, layout.tokens_at : layout.tokens_at + width].view(layout.dtype)
        if layout.mask_at is None:
            return Rows(tokens, None)
        return Rows(tokens, raw[:, layout.mask_at : layout.mask_at + layout.max_seq_len])

    def prepare(self, now: Sequence[int], soon: Sequence[int]) -> None:
        """Told which shards are about to be read, and which after them; local files are at hand already."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)

    def _path(self, shard: int) -> Path:
        return self.folder / self._entries[shard].file

    def _rows_at(self, shard: int) -> int:
        """Where a shard's first sample begins: the samples are all of one size and end with the file."""
        entry = self._entries[shard]
        return entry.bytes - entry.samples * self.layout.bytes

    def _file(self, shard: int) -> int:
        """An open file of the shard; the one used longest ago is closed where there are too many."""
        file = self._files.pop(shard, None)
        if file is None:
            file = self._open(shard)
            while len(self._files) >= _OPEN_FILES:
                os.close(self._files.pop(next(iter(self._files))))
        self._files[shard] = file
        return file

    def _open(self, shard: int) -> int:
        path, entry = self._path(shard), self._entries[shard]
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            # A worker process hands on an OSError without what it is about.
            raise DataError(
                f"the shard {path} cannot be opened ({error.strerror}); restore it, and run again"
            ) from error
        header = os.pread(file, 8, 0)
        stored, first = struct.unpack("<II", header) if len(header) == 8 else (-1, -1)
        if stored != entry.samples or first != self._rows_at(shard) or os.fstat(file).st_size != entry.bytes:
            os.close(file)
            raise DataError(
                f"the shard {path} does not hold the {entry.samples} samples that its {INDEX_FILE} names;"
                " delete the folder and prepare the data again"
            )
        return file


def parse_index(text: str, where: str) -> list[ShardEntry]:
    """The shards of an `index.json`.

    Raises:
        DataError: it is none; `where` names it.
    """
    try:
        return [
            ShardEntry(
                file=Path(shard["raw_data"]["basename"]).name,
                bytes=int(shard["raw_data"]["bytes"]),
                samples=int(shard["samples"]),
                kind=" ".join(
                    [
                        shard["format"],
                        shard["compression"] or "raw",
                        *map("=".join, zip(shard["column_names"], shard["column_encodings"], strict=True)),
                    ]
                ),
            )
            for shard in json.loads(text)["shards"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{where} is damaged; delete the folder and prepare the data again") from None


# Columns stand in a sample in the order of their names.
_KIND = re.compile(rf"mds raw (?:{MASK_COLUMN}=ndarray:uint8:(\d+) )?{COLUMN}=ndarray:(u?int\d+):(\d+)")


def row_layout(entries: Sequence[ShardEntry], where: str) -> RowLayout:
    """The one layout of all samples of an index.

    Raises:
        DataError: the shards differ, or hold other columns than tokens of a fixed length and, if any, their loss mask.
    """
    if not entries:
        return RowLayout(np.dtype("<u2"), 0, 0, 0, None)
    kinds = sorted({entry.kind for entry in entries})
    match = _KIND.fullmatch(kinds[0])
    if len(kinds) > 1 or match is None or match[1] not in (None, match[3]):
        raise DataError(
            f"the shards in {where} are not uncompressed MDS with one column `{COLUMN}=ndarray:<dtype>:<length>`, or"
            f" `{MASK_COLUMN}=ndarray:uint8:<length>` before it (found: {'; '.join(kinds)}); write them with"
            " data_prep/main.py"
        )
    dtype, length = np.dtype(match[2]).newbyteorder("<"), int(match[3])
    mask = 0 if match[1] is None else length
    return RowLayout(dtype, length, mask + length * dtype.itemsize, mask, None if match[1] is None else 0)
