"""Sources to files: what a folder or a git repository holds, and the bytes of each file.

Nothing outside a source is reached: symbolic links are not followed, devices, sockets and pipes are not opened.
Every file that is left out is counted by language and reason.
"""

import functools
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from codelm.config.cleaning import FiltersSection
from codelm.config.data import CodeSource, DataConfig
from codelm.data.documents import OTHER, Counts, Document, FileEntry, Repository
from codelm.data.filters import decode, path_reason, text_reason
from codelm.data.git_objects import LOST, SUBMODULE, SYMLINK, BlobReader, is_repository, list_tree, resolve_commit
from codelm.data.notebooks import notebook_to_script
from codelm.errors import DataError
from codelm.languages import language_of

_HISTORY_FOLDERS = frozenset({".git", ".hg", ".svn", ".bzr"})


def find_repositories(key: str, source: CodeSource) -> list[Repository]:
    """The repositories of one source, in the order of their names.

    Raises:
        DataError: when the path is no folder, or `commit` is given for what is no git repository.
    """
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
    folders = [child for child in children if child not in _HISTORY_FOLDERS]
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


def list_files(config: DataConfig, counts: Counts) -> Iterator[tuple[Repository, FileEntry]]:
    """Every file whose path lets it pass, source by source in the order of the YAML; the others are counted.

    Raises:
        DataError: when a source cannot be read.
    """
    chosen = set(config.languages) if config.languages is not None else None
    for key, source in config.sources.items():
        if not isinstance(source, CodeSource):
            continue
        included = compile_globs(source.include)
        excluded = compile_globs(source.exclude)
        for repository in find_repositories(key, source):
            loose = source.repository_per_folder and repository.root == _real(source.path)
            prefix = f"{Path(repository.root).name}/" if source.repository_per_folder and not loose else ""
            for file, special in _entries(repository, flat=loose):
                language = language_of(file.path)
                reason = special
                if reason is None and language is None:
                    reason = "not_a_language"
                if reason is None and language is not None and chosen is not None and language.name not in chosen:
                    reason = "language_not_chosen"
                inside = prefix + file.path
                if reason is None and ((source.include and not included(inside)) or excluded(inside)):
                    reason = "excluded"
                reason = reason or path_reason(repository.name, file.path, config.filters) or _size_reason(file, config)
                if reason is None:
                    yield repository, file
                else:
                    counts.drop(language.name if language else OTHER, reason)


def _size_reason(file: FileEntry, config: DataConfig) -> str | None:
    if file.size == 0:
        return "empty"
    return "too_large" if file.size > config.filters.max_file_bytes else None


def _entries(repository: Repository, flat: bool) -> Iterator[tuple[FileEntry, str | None]]:
    """The files of a repository, each with the reason why it is no regular file, or None."""
    if repository.commit is None:
        yield from _walk(repository.root, "", flat)
        return
    for entry in list_tree(repository.root, repository.commit):
        yield entry.file, {SYMLINK: "symlink", SUBMODULE: "submodule", LOST: "unreadable"}.get(entry.mode)


def _walk(folder: str, prefix: str, flat: bool) -> Iterator[tuple[FileEntry, str | None]]:
    """Depth first, in the order of names; with `flat`, the files of the folder itself alone."""
    waiting = [(folder, prefix)]
    while waiting:
        folder, prefix = waiting.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            yield FileEntry(prefix, 0), "unreadable"
            continue
        below = []
        for entry in entries:
            path = prefix + entry.name
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                yield FileEntry(path, 0), "unreadable"
                continue
            if stat.S_ISDIR(status.st_mode):
                if not flat and entry.name not in _HISTORY_FOLDERS:
                    below.append((entry.path, path + "/"))
            elif stat.S_ISLNK(status.st_mode):
                if not flat or not os.path.isdir(entry.path):
                    yield FileEntry(path, 0), "symlink"
            else:
                yield FileEntry(path, status.st_size), None if stat.S_ISREG(status.st_mode) else "special_file"
        waiting += reversed(below)


def read_documents(
    repository: Repository, files: list[FileEntry], filters: FiltersSection, counts: Counts
) -> Iterator[tuple[FileEntry, Document | None]]:
    """Each file with its document, or None when a rule on contents drops it (and counts it)."""
    with _opened(repository, filters.max_file_bytes) as read:
        for file in files:
            language = language_of(file.path)
            assert language is not None
            document, reason = _document(repository, file, language.name, read(file), filters)
            if reason is not None:
                counts.drop(language.name, reason)
            yield file, document


def _document(
    repository: Repository, file: FileEntry, language: str, contents: bytes | None, filters: FiltersSection
) -> tuple[Document | None, str | None]:
    if contents is None:
        return None, "unreadable"
    if len(contents) > filters.max_file_bytes:
        return None, "too_large"
    text, reason = decode(contents)
    if reason is None and language == "jupyter":
        script = notebook_to_script(text)
        text, reason = script or "", "not_a_notebook" if script is None else None
    reason = reason or text_reason(text, language, filters)
    if reason is not None:
        return None, reason
    document = Document(
        text=text,
        path=file.path,
        repository=repository.name,
        commit=repository.commit,
        language=language,
        licence=repository.licence,
        blob=file.object_id or blob_id(contents),
        digest=hashlib.blake2b(contents, digest_size=16).digest(),
    )
    return document, None


class _opened:
    """A function from a file's entry to its bytes (None when unreadable), for the time of a `with`."""

    def __init__(self, repository: Repository, limit: int) -> None:
        self.repository, self.limit = repository, limit
        self.blobs: BlobReader | None = None

    def __enter__(self) -> Callable[[FileEntry], bytes | None]:
        if self.repository.commit is None:
            return functools.partial(_read_file, self.repository.root, self.limit)
        self.blobs = BlobReader(self.repository.root)
        return self._read_blob

    def __exit__(self, *_: object) -> None:
        if self.blobs is not None:
            self.blobs.close()

    def _read_blob(self, file: FileEntry) -> bytes | None:
        assert self.blobs is not None
        return self.blobs.read(file.object_id or "")


def _read_file(root: str, limit: int, file: FileEntry) -> bytes | None:
    """At most limit + 1 bytes of a regular file, even if a link or a pipe was put there meanwhile."""
    try:
        descriptor = os.open(os.path.join(root, file.path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return stream.read(limit + 1)
    except OSError:
        return None


def blob_id(contents: bytes) -> str:
    """Git's SHA-1 id of a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()


def compile_globs(patterns: list[str]) -> Callable[[str], bool]:
    """Whether a path matches one of the patterns, by the rules of .gitignore without its `!`.

    `*` and `?` stay within a name, `**` crosses folders; a pattern without `/` matches a name at any depth; one that
    matches a folder matches everything in it.
    """
    if not patterns:
        return lambda path: False
    expression = re.compile("|".join(_glob_expression(pattern) for pattern in patterns), re.DOTALL)
    return lambda path: expression.match(path) is not None


def _glob_expression(pattern: str) -> str:
    anchored = "/" in pattern.rstrip("/")
    tokens = re.findall(r"\*\*/|/\*\*|\*\*|\*|\?|\[!?[^]/]+]|.", pattern.strip("/"), re.DOTALL)
    translated = {"**/": "(?:.*/)?", "/**": "/.*", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = "".join(translated.get(token) or _class_or_literal(token) for token in tokens)
    return f"(?:{'' if anchored else '(?:.*/)?'}{body}(?:/.*)?$)"


def _class_or_literal(token: str) -> str:
    if len(token) > 1 and token.startswith("["):
        return token.replace("[!", "[^").replace("\\", "\\\\")
    return re.escape(token)
