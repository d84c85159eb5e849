"""Sources to files, and files to documents: the two steps that every kind of source takes part in.

What is left out is counted by language, source and reason. One source after another, in the order of the YAML; the
order within a source depends on its contents alone.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace

from codelm.config.cleaning import FiltersSection
from codelm.config.data import CodeSource, DataConfig, HubSource, RecordsSource
from codelm.data.documents import Counts, Document, Drop, FileEntry, Repository
from codelm.data.globs import compile_globs
from codelm.data.sources.hub import list_hub
from codelm.data.sources.instructions import list_instructions, read_instructions
from codelm.data.sources.notebooks import NotebookForm
from codelm.data.sources.records import list_records, read_records
from codelm.data.sources.repositories import list_code, read_code
from codelm.languages import INSTRUCTIONS


def list_files(config: DataConfig, counts: Counts) -> Iterator[tuple[Repository, FileEntry]]:
    """Every file whose path lets it pass, and every part of files of rows; what does not pass is counted.

    Raises:
        DataError: when a source cannot be read.
        EnvironmentFailure: when a program or package that a source needs is not installed.
    """
    for key, source in config.sources.items():
        of_source = counts.of(key)
        if isinstance(source, CodeSource):
            found = list_code(key, source, config, of_source)
        elif isinstance(source, RecordsSource):
            found = list_records(key, source, of_source)
        elif isinstance(source, HubSource):
            found = list_hub(key, source, config.languages, of_source)
        else:
            found = list_instructions(key, source, of_source)
        for repository, file in found:
            yield _of_source(repository, key), file


@functools.lru_cache(maxsize=4)
def _of_source(repository: Repository, key: str) -> Repository:
    return replace(repository, source=key)


def read_documents(
    repository: Repository,
    files: list[FileEntry],
    filters: FiltersSection,
    counts: Counts,
    notebooks: NotebookForm = "script",
    languages: list[str] | None = None,
    exclude_repositories: list[str] | None = None,
) -> Iterator[tuple[FileEntry, Document | None]]:
    """Each file, or each row of a part, with its document, or None when it makes none (and is counted).

    `languages` are those chosen (None: all), `exclude_repositories` patterns of names of those that nothing is taken
    from: the language of a header and the repository of a row are known only now.

    Raises:
        DataError: when a file of rows cannot be read.
    """
    if repository.kind == "records":
        found = read_records(repository, files, filters, notebooks)
    elif repository.kind == "instructions":
        found = read_instructions(repository, files, filters)
    else:
        found = read_code(repository, files, filters, notebooks)
    refused = compile_globs(exclude_repositories or [])
    for file, document in found:
        if isinstance(document, Document):
            reason = _late_reason(document, languages, refused)
            document = Drop(document.language, reason) if reason is not None else document
        if isinstance(document, Drop):
            counts.drop(document.language, document.reason)
        yield file, document if isinstance(document, Document) else None


def _late_reason(document: Document, languages: list[str] | None, refused: Callable[[str], bool]) -> str | None:
    if refused(document.repository):
        return "excluded_repository"
    chosen = languages is None or document.language in languages or document.language == INSTRUCTIONS
    return None if chosen else "language_not_chosen"
