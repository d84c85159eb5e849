"""From a sample back to its files: which documents a row of tokens holds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codelm.data.packing.pack import DOCUMENTS_FILE
from codelm.errors import DataError

_SCANNED_BYTES = 8192


@dataclass(frozen=True)
class DocumentPart:
    """A document's part of a sample: tokens `first` to `end` (exclusive) of the row, its end-of-text included."""

    repository: str
    commit: str | None
    path: str
    licence: str | None
    blob: str
    first: int
    end: int

    @property
    def origin(self) -> str:
        """Repository, commit and path on a line."""
        return f"{self.repository}{f'@{self.commit[:12]}' if self.commit else ''}:{self.path}"


def documents_of_sample(
    folder: str | Path, split: str, language: str, sample: int, max_seq_len: int
) -> Iterator[DocumentPart]:
    """The documents of one sample, in order; tokens that are in none of them are padding.

    The list of documents is in the order of their tokens, so that its place is found by halving, however long it is.

    Raises:
        DataError: when the corpus has no list of documents.
    """
    file = Path(folder) / split / language / DOCUMENTS_FILE
    begin, end = sample * max_seq_len, (sample + 1) * max_seq_len
    try:
        lines = file.open("rb")
    except FileNotFoundError:
        raise DataError(f"{file} is missing; prepare the data again to trace its samples") from None
    with lines:
        lines.seek(_line_before(lines, file.stat().st_size, begin))
        for line in lines:
            fields = json.loads(line)
            start, stop = fields["start"], fields["start"] + fields["tokens"]
            if start >= end:
                return
            if stop > begin:
                yield DocumentPart(
                    repository=fields["repository"],
                    commit=fields["commit"],
                    path=fields["path"],
                    licence=fields["licence"],
                    blob=fields["blob"],
                    first=max(start - begin, 0),
                    end=min(stop, end) - begin,
                )


def _line_before(lines: BinaryIO, size: int, token: int) -> int:
    """Where a line begins that is not far before the first line that starts after `token`, and not after it."""
    low, high = 0, size
    while high - low > _SCANNED_BYTES:
        middle = (low + high) // 2
        lines.seek(middle)
        lines.readline()
        place = lines.tell()
        if place >= high:
            break
        if json.loads(lines.readline())["start"] <= token:
            low = place
        else:
            high = middle
    return low
