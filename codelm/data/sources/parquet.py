"""Parquet: row groups that can be read apart, and their rows, a few at a time."""

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from codelm.data.documents import FileEntry
from codelm.data.sources.reading_errors import explained
from codelm.data.sources.remote_files import FoundFile, is_remote, open_file
from codelm.errors import DataError

ENDINGS = (".parquet",)
PART_BYTES = 4 << 20

_BATCH_ROWS = 64
_BUFFER = 1 << 18


def list_parts(
    file: FoundFile, text: str, where: str, limit: int | None, part_bytes: int = PART_BYTES
) -> tuple[list[FileEntry], int]:
    """The row groups of a file in parts of some 4 MB of text, down to its first `limit` rows; and their rows.

    A part is at least a row group: that is the least that Parquet reads. `text` is the column of the texts.

    Raises:
        DataError: when the file cannot be read, or has no column of texts by that name.
    """
    with explained(file.url), closing(open_file(file.url, at_random=True)) as stream:
        parquet = pq.ParquetFile(stream)
        _check_column(parquet.schema_arrow, text, file.url, where)
        metadata = parquet.metadata
        groups = [_rows_and_bytes(metadata.row_group(index), text) for index in range(metadata.num_row_groups)]
    parts, first, size, rows, total = [], 0, 0, 0, 0
    for index, (group_rows, group_bytes) in enumerate(groups):
        if size and size + group_bytes > part_bytes:
            parts.append(FileEntry(file.url, size, first=first, end=index))
            first, size, rows = index, 0, 0
        size, rows, total = size + group_bytes, rows + group_rows, total + group_rows
        if limit is not None and total >= limit:
            parts.append(FileEntry(file.url, size, first=first, end=index + 1, rows=rows - (total - limit)))
            return parts, limit
    if rows:
        parts.append(FileEntry(file.url, size, first=first, end=len(groups)))
    return parts, total


def _check_column(schema: pa.Schema, text: str, url: str, where: str) -> None:
    if text not in schema.names:
        raise DataError(
            f"{where}.columns.text: {url} has no column `{text}`; it has {', '.join(schema.names) or 'none'}"
        )
    kind = schema.types[schema.names.index(text)]
    if _as_bytes(kind) not in (pa.binary(), pa.large_binary()):
        raise DataError(f"{where}.columns.text: the column `{text}` of {url} holds {kind}, not text")


def _rows_and_bytes(group: Any, text: str) -> tuple[int, int]:
    """The rows of a row group, and the bytes of their texts as they are in memory."""
    columns = (group.column(index) for index in range(group.num_columns))
    size = sum(column.total_uncompressed_size for column in columns if column.path_in_schema == text)
    return group.num_rows, size or group.total_byte_size


def read_rows(part: FileEntry, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number of each row in the file, and its fields; texts are bytes, as they are not checked to be UTF-8.

    Columns that the file does not have are left out. Memory: on this machine some 100 rows, through buffers; of a
    remote file a row group, fetched in one request a column.

    Raises:
        DataError: when the file cannot be read.
    """
    remote = is_remote(part.path)
    with explained(part.path), closing(open_file(part.path, at_random=True)) as stream:
        parquet = pq.ParquetFile(stream, pre_buffer=remote, buffer_size=0 if remote else _BUFFER)
        names = parquet.schema_arrow.names
        present = [name for name in dict.fromkeys(columns) if name in names]
        end = part.end if part.end is not None else parquet.metadata.num_row_groups
        number = sum(parquet.metadata.row_group(index).num_rows for index in range(part.first))
        groups = range(part.first, end)
        batches = itertools.chain.from_iterable(
            parquet.iter_batches(_BATCH_ROWS, row_groups=[index], columns=present, use_threads=False)
            for index in groups
        )
        last = number + part.rows if part.rows is not None else None
        for batch in batches:
            fields = [(name, _values(batch.column(batch.schema.names.index(name)))) for name in present]
            for index in range(batch.num_rows):
                if number == last:
                    return
                yield number, {name: values[index] for name, values in fields}
                number += 1


def _values(column: pa.Array) -> list[Any]:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = _as_bytes(column.type)
    return (column.cast(kind) if kind is not None else column).to_pylist()


def _as_bytes(kind: pa.DataType) -> pa.DataType | None:
    """The type of a column of texts, or of lists of them, as bytes; None for what is neither."""
    types = pa.types
    if types.is_dictionary(kind):
        return _as_bytes(kind.value_type)
    if types.is_list(kind) or types.is_large_list(kind):
        return None if _as_bytes(kind.value_type) is None else pa.list_(pa.binary())
    if types.is_large_string(kind) or types.is_large_binary(kind):
        return pa.large_binary()
    if types.is_string(kind) or types.is_binary(kind) or types.is_null(kind):
        return pa.binary()
    return None
