"""Sources of code, folders and git repositories, to their files and documents.

Every file that is left out is counted by language and reason.
"""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from codelm.config.cleaning import FiltersSection
from codelm.config.data import CodeSource, DataConfig
from codelm.data.documents import OTHER, Counts, Document, Drop, FileEntry, Repository
from codelm.data.globs import compile_globs
from codelm.data.licences.detect import governing_licence, is_licence_file, licences_by_folder
from codelm.data.rules.ambiguous import may_have_language
from codelm.data.rules.filters import path_reason
from codelm.data.rules.gitattributes import GitAttributes
from codelm.data.sources.contents import Provenance, make_document
from codelm.data.sources.folders import HISTORY_FOLDERS, read_file, walk
from codelm.data.sources.git_objects import (
    LOST,
    SUBMODULE,
    SYMLINK,
    BlobReader,
    change_times,
    has_commit,
    is_repository,
    is_shallow,
    list_tree,
    resolve_commit,
)
from codelm.data.sources.notebooks import NotebookForm
from codelm.errors import DataError

log = logging.getLogger(__name__)


def find_repositories(key: str, source: CodeSource) -> list[Repository]:
    """The repositories of one source, in the order of their names, without submodules.

    With `repository_per_folder`, a folder that `exclude` names as a whole is left out unread.

    Raises:
        DataError: when the path is no folder, or `commit` is given for what is no git repository.
    """
    if "\0" in source.path:
        raise DataError(f"sources.{key}.path: {source.path!r} holds a NUL character, which no path can")
    root = _real(source.path)
    if not os.path.isdir(root):
        what = "is a file, not a folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"sources.{key}.path: {source.path} {what}; give a folder or a git repository")
    name = source.repository or key
    if not source.repository_per_folder:
        return [_repository(name, root, source, key)]
    try:
        children = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    except OSError as error:
        raise DataError(f"sources.{key}.path: {source.path} cannot be read ({error.strerror})") from None
    excluded = compile_globs(source.exclude)
    folders = [child for child in children if child not in HISTORY_FOLDERS and not excluded(child)]
    # Files beside the folders belong to no folder's repository; they go under the source's own name.
    loose = Repository(name, root, None, source.licence)
    return [loose, *(_repository(child, os.path.join(root, child), source, key) for child in folders)]


def _real(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))


def _repository(name: str, root: str, source: CodeSource, key: str) -> Repository:
    if is_repository(root):
        return Repository(name, root, resolve_commit(root, source.commit or "HEAD"), source.licence)
    if source.commit is not None and not source.repository_per_folder:
        raise DataError(f"sources.{key}: {source.path} is no git repository, so it has no commit `{source.commit}`")
    return Repository(name, root, None, source.licence)


def list_code(
    key: str, source: CodeSource, config: DataConfig, counts: Counts
) -> Iterator[tuple[Repository, FileEntry]]:
    """Every file of a source whose path lets it pass; the others are counted.

    Raises:
        DataError: when the source cannot be read.
    """
    passes = _path_rules(source, config)
    refused = compile_globs(config.exclude_repositories)
    for found in find_repositories(key, source):
        _refuse_output(key, source, found, config.output_folder)
        loose = source.repository_per_folder and found.root == _real(source.path)
        prefix = f"{Path(found.root).name}/" if source.repository_per_folder and not loose else ""
        waiting = [(found, prefix)]
        while waiting:
            repository, prefix = waiting.pop()
            if refused(repository.name):
                counts.drop(OTHER, "excluded_repository")
                continue
            rules = rules_of(repository, config, flat=loose)
            times = _times(repository) if config.split.by == "time" else {}
            below = []
            for file, special in _entries(repository, flat=loose):
                if special == "submodule" and source.submodules:
                    submodule = _submodule(repository, file)
                    if submodule is not None:
                        below.append((submodule, f"{prefix}{file.path}/"))
                        continue
                file = replace(
                    file,
                    changed=times.get(file.path),
                    attributes=rules.attributes.of(file.path),
                    licence=repository.licence or governing_licence(file.path, rules.licences),
                )
                reason = special or passes(repository, prefix, file)
                if reason is None:
                    yield repository, file
                else:
                    counts.drop(_provenance(repository, file).expected or OTHER, reason)
            waiting += reversed(below)


def _times(repository: Repository) -> dict[str, int]:
    """When each file of a commit last changed; of a plain folder nothing is known."""
    if repository.commit is None:
        return {}
    if is_shallow(repository.root):
        log.warning(
            "%s is a shallow clone: what did not change since its history was cut counts as changed then, which"
            " split.by: time may take for new; run `git -C %s fetch --unshallow` first",
            repository.name,
            repository.root,
        )
    return change_times(repository.root, repository.commit)


def _refuse_output(key: str, source: CodeSource, found: Repository, output: str) -> None:
    """Raises DataError: when a folder holds the output folder: its report and scripts would become part of a corpus."""
    place = _real(output)
    if found.commit is not None or not place.startswith(found.root.rstrip("/") + "/"):
        return
    inside = os.path.relpath(place, _real(source.path))
    written = f"{inside}/report.html"
    if compile_globs(source.exclude)(written) or (source.include and not compile_globs(source.include)(written)):
        return
    raise DataError(
        f"output_folder: {output} lies inside the source {key} ({source.path}), which would read it; name another"
        f" folder, or leave it out with sources.{key}.exclude: [{inside}]"
    )


def _path_rules(source: CodeSource, config: DataConfig) -> Callable[[Repository, str, FileEntry], str | None]:
    """A function from a file (and its repository's path inside the source) to the reason why it is left out."""
    chosen = set(config.languages) if config.languages is not None else None
    included, excluded = compile_globs(source.include), compile_globs(source.exclude)

    def reason(repository: Repository, prefix: str, file: FileEntry) -> str | None:
        if not may_have_language(file.path, file.attributes):
            return "not_a_language"
        language = _provenance(repository, file).expected
        if chosen is not None and language is not None and not chosen & _alternatives(language):
            return "language_not_chosen"
        inside = prefix + file.path
        if (source.include and not included(inside)) or excluded(inside):
            return "excluded"
        on_path = path_reason(repository.name, file.path, config.filters, file.attributes)
        if on_path is not None:
            return on_path
        if language is None:
            # No script is that large; a binary without an extension is.
            return "not_a_language" if file.size > config.filters.max_file_bytes else None
        if file.size == 0:
            return "empty"
        return "too_large" if file.size > config.filters.max_file_bytes else None

    return reason


def _alternatives(language: str) -> set[str]:
    """The languages that the contents may decide for: headers and `.C` may be either."""
    return {"c", "cpp"} if language in ("c", "cpp") else {language}


@dataclass(frozen=True)
class RepositoryRules:
    """What files of a repository say of others."""

    attributes: GitAttributes
    licences: dict[str, str]
    """SPDX expressions by folder; the deepest folder above a file governs it."""


def rules_of(repository: Repository, config: DataConfig, flat: bool = False) -> RepositoryRules:
    """Read the .gitattributes and licence files of a repository, as far as the configuration asks for them."""
    attributes = config.filters.use_gitattributes
    licences = config.licences.detect and repository.licence is None

    def wanted(path: str) -> bool:
        return (attributes and path.rpartition("/")[2] == ".gitattributes") or (licences and is_licence_file(path))

    found = read_matching(repository, wanted, flat=flat) if attributes or licences else {}
    texts = {path: contents.decode(errors="surrogateescape") for path, contents in found.items()}
    said = {path.rpartition("/")[0]: text for path, text in texts.items() if path.endswith(".gitattributes")}
    stated = {path: text for path, text in texts.items() if is_licence_file(path)}
    return RepositoryRules(GitAttributes(said), licences_by_folder(stated) if licences else {})


def _submodule(repository: Repository, link: FileEntry) -> Repository | None:
    """The checked-out repository behind an entry of a commit, at the commit it names, or None when it is not there."""
    root = os.path.realpath(os.path.join(repository.root, link.path))
    if not root.startswith(repository.root + "/") or not is_repository(root):
        return None
    assert link.object_id is not None
    if not has_commit(root, link.object_id):
        return None
    return Repository(f"{repository.name}/{link.path}", root, link.object_id, repository.licence)


def place_in(repository: Repository, path: str, submodules: bool) -> tuple[Repository, str, str | None]:
    """The repository, or its submodule, that a file's path belongs to; the path there; why it is not read, or None.

    The reasons are those of `list_code`, and `not_in_commit`: untracked, ignored, or not committed.
    """
    if repository.commit is None:
        return repository, path, None
    for file, special in _entries(repository):
        if file.path == path:
            return repository, path, special
        if special == "submodule" and path.startswith(f"{file.path}/"):
            below = _submodule(repository, file) if submodules else None
            return (repository, path, special) if below is None else place_in(below, path[len(file.path) + 1 :], True)
    return repository, path, "not_in_commit"


def _entries(repository: Repository, flat: bool = False) -> Iterator[tuple[FileEntry, str | None]]:
    """The files of a repository, each with the reason why it is no regular file, or None."""
    if repository.commit is None:
        yield from walk(repository.root, flat)
        return
    for entry in list_tree(repository.root, repository.commit):
        yield entry.file, {SYMLINK: "symlink", SUBMODULE: "submodule", LOST: "unreadable"}.get(entry.mode)


def read_code(
    repository: Repository, files: list[FileEntry], filters: FiltersSection, notebooks: NotebookForm
) -> Iterator[tuple[FileEntry, Document | Drop]]:
    """Each file with its document, or the reason why its contents make none."""
    with _Opened(repository, filters.max_file_bytes) as read:
        for file in files:
            source = _provenance(repository, file)
            contents = read(file)
            if contents is None:
                yield file, Drop(source.expected or OTHER, "unreadable")
            else:
                yield file, make_document(contents, source, filters, notebooks)


def _provenance(repository: Repository, file: FileEntry) -> Provenance:
    return Provenance(
        path=file.path,
        repository=repository.name,
        commit=repository.commit,
        language=None,
        licence=file.licence or repository.licence,
        blob=file.object_id,
        changed=file.changed,
        attributes=file.attributes,
    )


class _Opened:
    """A function from a file's entry to its bytes (None when unreadable), for the time of a `with`."""

    def __init__(self, repository: Repository, limit: int) -> None:
        self.repository, self.limit = repository, limit
        self.blobs: BlobReader | None = None

    def __enter__(self) -> Callable[[FileEntry], bytes | None]:
        if self.repository.commit is None:
            return lambda file: read_file(self.repository.root, file.path, self.limit)
        blobs = self.blobs = BlobReader(self.repository.root)
        return lambda file: blobs.read(file.object_id or "")

    def __exit__(self, *_: object) -> None:
        if self.blobs is not None:
            self.blobs.close()


def read_matching(
    repository: Repository, wanted: Callable[[str], bool], limit: int = 1_000_000, flat: bool = False
) -> dict[str, bytes]:
    """The files of up to `limit` bytes whose paths are wanted (such as .gitattributes and licences), in one pass."""
    files = [file for file, special in _entries(repository, flat) if special is None and wanted(file.path)]
    with _Opened(repository, limit) as read:
        found = {file.path: read(file) for file in files if file.size <= limit}
    return {path: contents for path, contents in found.items() if contents is not None and len(contents) <= limit}
