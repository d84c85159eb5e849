"""From a sample back to its files: which documents a row of tokens holds."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codelm.data.pack import DOCUMENTS_FILE
from codelm.errors import DataError


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


def documents_of_sample(
    folder: str | Path, split: str, language: str, sample: int, max_seq_len: int
) -> Iterator[DocumentPart]:
    """The documents of one sample, in order.

    Raises:
        DataError: when the corpus has no list of documents.
    """
    file = Path(folder) / split / language / DOCUMENTS_FILE
    begin, end = sample * max_seq_len, (sample + 1) * max_seq_len
    try:
        lines = file.open(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{file} is missing; prepare the data again to trace its samples") from None
    with lines:
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
