"""JSON Lines, plain or compressed: parts of a file that can be read apart, and their rows.

A plain file is cut every 4 MB; a part holds the lines that begin in it, so nothing needs to be read to cut it. A
compressed file is one part: it can only be read from its beginning.
"""

import gzip
import io
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any

from codelm.data.documents import FileEntry
from codelm.data.sources.reading_errors import explained
from codelm.data.sources.remote_files import FoundFile, ends_in, is_remote, open_file

ENDINGS = (".jsonl", ".jsonl.gz", ".jsonl.zst")
PART_BYTES = 4 << 20

_BUFFER = 1 << 20
_LOOKED_AT = 100
Row = dict[str, Any] | str
"""The fields of a row, or the reason why there are none: not_json, not_utf8, wrong_type, too_large."""


def list_parts(file: FoundFile, limit: int | None, part_bytes: int = PART_BYTES) -> tuple[list[FileEntry], int]:
    """The parts of a file, down to its first `limit` rows; and the rows they hold, counted only under a limit.

    Raises:
        DataError: when the file cannot be read.
    """
    whole = ends_in(file.url, (".gz", ".zst")) or file.size is None
    if limit is None:
        size = file.size or 0
        if whole:
            return [FileEntry(file.url, size)], 0
        return [_part(file.url, first, min(first + part_bytes, size)) for first in range(0, size, part_bytes)], 0
    rows, end = 0, 0
    for start, _ in read_lines(FileEntry(file.url, 0), 1 << 62, whole_lines=False):
        if rows == limit:
            break
        rows, end = rows + 1, start + 1
    if whole:
        return [FileEntry(file.url, file.size or 0, rows=rows)], rows
    return [_part(file.url, first, min(first + part_bytes, end)) for first in range(0, end, part_bytes)], rows


def _part(url: str, first: int, end: int) -> FileEntry:
    return FileEntry(url, end - first, first=first, end=end)


def read_lines(part: FileEntry, max_line: int, whole_lines: bool = True) -> Iterator[tuple[int, bytes | None]]:
    """The lines that begin in a part, with their offsets (of what is compressed, in the decompressed bytes).

    Blank lines are left out; a line longer than `max_line` bytes is None. Without `whole_lines`, lines are cut short.

    Raises:
        DataError: when the file cannot be read.
    """
    piece = max_line if whole_lines else 1 << 16
    with explained(part.path), ExitStack() as opened:
        stream = _stream(part.path, opened)
        offset = part.first
        if offset:
            # The line that the part begins in the midst of belongs to the part before.
            stream.seek(offset - 1)
            offset += _rest_of_line(stream, b"", part.end) - 1
        rows = 0
        while (part.end is None or offset < part.end) and (part.rows is None or rows < part.rows):
            line = stream.readline(min(piece, 1 << 62) + 1)
            if not line:
                return
            start, long = offset, len(line) > piece and not line.endswith(b"\n")
            offset += len(line) + (_rest_of_line(stream, line, None) if long else 0)
            if line.strip():
                rows += 1
                yield start, None if long and whole_lines else line


def _rest_of_line(stream: IO[bytes], line: bytes, end: int | None) -> int:
    """Read to the end of a line (or, in vain, to about `end`); returns the number of bytes read."""
    read = 0
    while not line.endswith(b"\n"):
        line = stream.readline(_BUFFER)
        read += len(line)
        if not line or (end is not None and stream.tell() >= end and not line.endswith(b"\n")):
            # No line begins in this part.
            return read if not line else read + 1
    return read


def _stream(url: str, opened: ExitStack) -> IO[bytes]:
    file = opened.enter_context(open_file(url))
    if ends_in(url, (".gz",)):
        return opened.enter_context(gzip.open(file, "rb"))  # type: ignore[return-value]
    if ends_in(url, (".zst",)):
        import pyarrow  # it brings zstd, which Python 3.11 has not

        decompressed = opened.enter_context(pyarrow.CompressedInputStream(file, "zstd"))
        return io.BufferedReader(decompressed, _BUFFER)  # type: ignore[arg-type]
    # The streams of remote files read lines byte by byte.
    return io.BufferedReader(file, _BUFFER) if is_remote(url) else file  # type: ignore[arg-type]


def parse_row(line: bytes | None) -> Row:
    """The fields of a line."""
    if line is None:
        return "too_large"
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return "not_utf8"
    except (ValueError, RecursionError):
        return "not_json"
    return row if isinstance(row, dict) else "wrong_type"


def first_keys(file: FoundFile) -> set[str]:
    """The keys of a file's first 100 rows; what is no row of JSON has none.

    Raises:
        DataError: when the file cannot be read.
    """
    keys: set[str] = set()
    for _, line in read_lines(FileEntry(file.url, 0, rows=_LOOKED_AT), 1 << 26):
        row = parse_row(line)
        keys |= row.keys() if isinstance(row, dict) else set()
    return keys
