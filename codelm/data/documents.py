"""What flows through the pipeline: repositories, the files found in them, documents, and why files are dropped."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Literal

from codelm.config.data import InstructionsSource, RecordsSource
from codelm.data.rules.gitattributes import NOTHING_SAID, Attributes

OTHER = "other"
"""The language under which files of no known language are counted."""


@dataclass(frozen=True)
class Repository:
    """Where files come from: a folder, a git repository at a commit, or files that hold documents in rows."""

    name: str
    root: str
    """The folder, or the git repository, on this machine; of rows, what the paths of the files have in common."""
    commit: str | None = None
    """The full commit id when git reads it; None for a plain folder and for rows."""
    licence: str | None = None
    rows: RecordsSource | InstructionsSource | None = field(default=None, hash=False)
    """How rows become documents; None where a file is a document."""
    source: str = ""
    """The key of its source in the YAML."""

    @property
    def kind(self) -> Literal["folder", "git", "records", "instructions"]:
        """What its files are: documents (folder, git), or rows of documents or of conversations."""
        if self.rows is not None:
            return self.rows.name
        return "folder" if self.commit is None else "git"


@dataclass(frozen=True)
class FileEntry:
    """A file before it is read, or a part of a file of rows, which holds many documents."""

    path: str
    """Inside the repository, with forward slashes; of rows, the whole path or URL."""
    size: int
    """In bytes, of the file or the part."""
    object_id: str | None = None
    """Git's id of the contents, when git lists the file."""
    changed: int | None = None
    """When git last saw it changed, in seconds since 1970, if the split asks for it."""
    first: int = 0
    end: int | None = None
    """The part [first, end) of a file of rows: of JSON Lines those that begin at these bytes, of Parquet row groups."""
    rows: int | None = None
    """At most so many rows of the part; None means all."""
    attributes: Attributes = NOTHING_SAID
    """What the repository's .gitattributes say of the file."""
    licence: str | None = None
    """What the licence files of the repository say of the file's folder."""


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
    source: str = ""
    """The key of its source in the YAML."""


@dataclass(frozen=True)
class Drop:
    """A file or row that becomes no document, and the name of the reason."""

    language: str
    reason: str


@dataclass
class Counts:
    """Dropped files by language and reason, and by source and reason."""

    dropped: dict[str, Counter[str]] = field(default_factory=dict)
    by_source: dict[str, Counter[str]] = field(default_factory=dict)
    """By the keys of the sources in the YAML."""
    source: str = ""
    """What `drop` counts is of this source; of an unnamed one it is counted by language alone."""

    def of(self, source: str) -> "Counts":
        """The same counts, to count what is of one source."""
        return replace(self, source=source)

    def drop(self, language: str, reason: str, files: int = 1) -> None:
        self.dropped.setdefault(language, Counter())[reason] += files
        if self.source:
            self.by_source.setdefault(self.source, Counter())[reason] += files

    def add(self, saved: dict[str, dict[str, dict[str, int]]]) -> None:
        """Add what `save` of other counts gave."""
        for counters, found in ((self.dropped, saved["languages"]), (self.by_source, saved["sources"])):
            for name, reasons in found.items():
                counters.setdefault(name, Counter()).update(reasons)

    def save(self) -> dict[str, dict[str, dict[str, int]]]:
        """All of it, as JSON takes it."""
        return {"languages": self.to_dict(), "sources": _sorted(self.by_source)}

    def to_dict(self) -> dict[str, dict[str, int]]:
        """By language and reason."""
        return _sorted(self.dropped)


def _sorted(counters: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    return {name: dict(sorted(counters[name].items())) for name in sorted(counters)}
