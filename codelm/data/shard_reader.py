"""Shards read back: the samples of one language of one split by number, through memory maps."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codelm.data.shards import INDEX_FILE, check_size
from codelm.errors import DataError


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
