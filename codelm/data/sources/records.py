"""Sources of rows, JSON Lines and Parquet, to documents: a row is a file, by the same rules.

A row that makes no document is counted by language and reason, and never ends a run; a file that cannot be read, or
has no column of texts, does.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from codelm.config.cleaning import FiltersSection
from codelm.config.data import ColumnsSection, RecordsSource
from codelm.data.documents import OTHER, Counts, Document, Drop, FileEntry, Repository
from codelm.data.rules.ambiguous import may_have_language
from codelm.data.rules.filters import path_reason
from codelm.data.sources import jsonl, parquet
from codelm.data.sources.contents import Provenance, make_document
from codelm.data.sources.notebooks import NotebookForm
from codelm.data.sources.remote_files import FoundFile, ends_in, find_files
from codelm.errors import DataError
from codelm.languages import language_by_name

ENDINGS = (*jsonl.ENDINGS, *parquet.ENDINGS)


class BadRow(Exception):
    """A row that makes no document; its text is the reason."""


def list_records(key: str, source: RecordsSource, counts: Counts) -> Iterator[tuple[Repository, FileEntry]]:
    """The parts of a source's files, in the order of `files` and of the names that a pattern or folder stands for.

    Raises:
        DataError: when a file is absent or cannot be read, or none of its rows has the column of texts.
        EnvironmentFailure: when a package that opens such URLs is not installed.
    """
    repository = Repository(source.repository or key, "", None, source.licence, source)
    left, seen = source.limit, set()
    for pattern in source.files:
        for file in find_files(f"sources.{key}.files", pattern, ENDINGS, counts):
            if file.url in seen or left == 0:
                continue
            seen.add(file.url)
            parts, rows = list_parts(file, source.columns, f"sources.{key}", left)
            left = left - rows if left is not None else None
            yield from ((repository, part) for part in parts)


def list_parts(file: FoundFile, columns: ColumnsSection, where: str, limit: int | None) -> tuple[list[FileEntry], int]:
    """The parts of one file, down to its first `limit` rows; and the rows they hold, counted only under a limit.

    Raises:
        DataError: when it cannot be read, or none of its (first 100) rows has the column of texts.
    """
    if ends_in(file.url, parquet.ENDINGS):
        return parquet.list_parts(file, columns.text, where, limit)
    keys = jsonl.first_keys(file)
    if keys and columns.text not in keys:
        raise DataError(
            f"{where}.columns.text: the first rows of {file.url} have no field `{columns.text}`;"
            f" they have {', '.join(sorted(keys)[:20])}"
        )
    return jsonl.list_parts(file, limit)


def read_records(
    repository: Repository, files: list[FileEntry], filters: FiltersSection, notebooks: NotebookForm
) -> Iterator[tuple[FileEntry, Document | Drop]]:
    """Each row of the parts with its document, or the reason why it makes none.

    Raises:
        DataError: when a file cannot be read.
    """
    source = repository.rows
    assert isinstance(source, RecordsSource)
    for part in files:
        for position, row in _rows(part, source.columns, filters):
            yield part, _document(repository, source, row, f"{part.path}#{position}", filters, notebooks)


def _rows(part: FileEntry, columns: ColumnsSection, filters: FiltersSection) -> Iterator[tuple[int, jsonl.Row]]:
    if ends_in(part.path, parquet.ENDINGS):
        yield from parquet.read_rows(part, tuple(columns.model_dump().values()))
        return
    for offset, line in jsonl.read_lines(part, max_line(filters)):
        yield offset, jsonl.parse_row(line)


def max_line(filters: FiltersSection) -> int:
    """The longest line of JSON, in bytes, whose text can be small enough: an escaped character has six bytes."""
    return 6 * filters.max_file_bytes + (1 << 20)


def _document(
    repository: Repository,
    source: RecordsSource,
    row: jsonl.Row,
    position: str,
    filters: FiltersSection,
    notebooks: NotebookForm,
) -> Document | Drop:
    language = source.language or OTHER
    if isinstance(row, str):
        return Drop(language, row)
    columns = source.columns
    try:
        path = _text(row, columns.path)
        named = _text(row, columns.language)
        name = _text(row, columns.repository) or repository.name
        # A path such as "." names nothing.
        path = path if path and path.strip("./") else None
        given = language_by_name(named) if named else None
        if source.language is None and given is None and (named or not may_have_language(path or "")):
            return Drop(OTHER, "not_a_language")
        provenance = Provenance(
            path=path or position,
            repository=name,
            commit=_text(row, columns.commit),
            language=source.language or (given.name if given else None),
            licence=_licence(row, columns.licence) or repository.licence,
            blob=_text(row, columns.blob),
        )
        language = provenance.expected or OTHER
        reason = path_reason(name, path or "", filters)
        if reason is not None:
            return Drop(language, reason)
        contents = _contents(row, columns.text)
    except BadRow as bad:
        return Drop(language, str(bad))
    return make_document(contents, provenance, filters, notebooks)


def _contents(row: Mapping[str, Any], column: str) -> bytes:
    text = row.get(column)
    if text is None:
        raise BadRow("no_text")
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise BadRow("wrong_type")
    return _encoded(text)


def _text(row: Mapping[str, Any], column: str) -> str | None:
    """The value of a column that names something; None when it is absent, null or empty."""
    return _decoded(row.get(column)) or None


def _decoded(value: object) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise BadRow("not_utf8") from None
    if value is None:
        return ""
    if not isinstance(value, str):
        raise BadRow("wrong_type")
    _encoded(value)
    return value


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a character, written as \ud83d
        raise BadRow("not_utf8") from None


def _licence(row: Mapping[str, Any], column: str) -> str | None:
    """One SPDX expression; of a list, every licence holds."""
    value = row.get(column)
    if isinstance(value, list):
        return " AND ".join(sorted({name for item in value if (name := _decoded(item))})) or None
    return _decoded(value) or None
