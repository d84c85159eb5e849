"""What flows through the pipeline: repositories, the files found in them, documents, and why files are dropped."""

from collections import Counter
from dataclasses import dataclass, field

OTHER = "other"
"""The language under which files of no known language are counted."""


@dataclass(frozen=True)
class Repository:
    """Where files come from: a folder, or a git repository at a commit."""

    name: str
    root: str
    """The folder, or the git repository, on this machine."""
    commit: str | None = None
    """The full commit id when git reads it; None for a plain folder."""
    licence: str | None = None


@dataclass(frozen=True)
class FileEntry:
    """A file before it is read; `path` is inside the repository, with forward slashes."""

    path: str
    size: int
    object_id: str | None = None
    """Git's id of the contents, when git lists the file."""


@dataclass(frozen=True)
class Document:
    """A file's text with its provenance."""

    text: str
    path: str
    repository: str
    commit: str | None
    language: str
    licence: str | None
    blob: str
    """Git's id of the file's bytes."""
    digest: bytes
    """16 bytes of BLAKE2b of the file's bytes: files with one digest are duplicates."""
    trained: tuple[tuple[int, int], ...] | None = None
    """The character ranges (first, end) that the loss is computed on, of instruction data; None: the whole text."""
    changed: int | None = None
    """When the file was last changed, in seconds since 1970, where git says so and the split asks for it."""


@dataclass
class Counts:
    """Dropped files by language and reason."""

    dropped: dict[str, Counter[str]] = field(default_factory=dict)

    def drop(self, language: str, reason: str, files: int = 1) -> None:
        self.dropped.setdefault(language, Counter())[reason] += files

    def add(self, dropped: dict[str, dict[str, int]]) -> None:
        for language, reasons in dropped.items():
            for reason, files in reasons.items():
                self.drop(language, reason, files)

    def to_dict(self) -> dict[str, dict[str, int]]:
        return {language: dict(sorted(self.dropped[language].items())) for language in sorted(self.dropped)}
