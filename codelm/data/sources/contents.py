"""Bytes to a document: text, notebooks as text, the rules on contents, and what identifies the bytes."""

import hashlib
from dataclasses import dataclass

from codelm.config.cleaning import FiltersSection
from codelm.data.documents import OTHER, Document, Drop
from codelm.data.rules.filters import Examined, findings_on_contents
from codelm.data.rules.gitattributes import NOTHING_SAID, Attributes
from codelm.data.sources.notebooks import NotebookForm, notebook_text
from codelm.languages import language_by_name, language_of


@dataclass(frozen=True)
class Provenance:
    """Where bytes come from, as a `Document` records it; `blob` is None where nobody named it yet."""

    path: str
    repository: str
    commit: str | None
    language: str | None
    """None where the path and the contents decide."""
    licence: str | None
    blob: str | None = None
    changed: int | None = None
    attributes: Attributes = NOTHING_SAID

    @property
    def expected(self) -> str | None:
        """The language as far as it is known before the contents are."""
        if self.language is not None:
            return self.language
        named = self.attributes.language
        language = language_of(self.path) if named is None else language_by_name(named)
        return language.name if language else None


def make_document(
    contents: bytes, source: Provenance, filters: FiltersSection, notebooks: NotebookForm = "script"
) -> Document | Drop:
    """The document of a file's bytes, or the reason why they make none. The rules on its path were asked before."""
    examined = Examined()
    found = findings_on_contents(
        examined,
        source.path,
        contents,
        filters,
        source.attributes,
        convert=lambda text: notebook_text(text, notebooks),
        language=source.language,
    )
    reason = next((finding.rule for finding in found if finding.drops), None)
    if reason is None:
        assert examined.language is not None
        return identified(examined.text, contents, examined.language, source)
    language = examined.language or source.expected
    # What cannot be read for a text and has no extension of a language is no script either.
    return Drop(language, reason) if language is not None else Drop(OTHER, "not_a_language")


def identified(
    text: str, contents: bytes, language: str, source: Provenance, trained: tuple[tuple[int, int], ...] | None = None
) -> Document:
    """A document with the ids of the bytes that its text was made from."""
    return Document(
        text=text,
        path=source.path,
        repository=source.repository,
        commit=source.commit,
        language=language,
        licence=source.licence,
        blob=source.blob or blob_id(contents),
        digest=hashlib.blake2b(contents, digest_size=16).digest(),
        trained=trained,
        changed=source.changed,
    )


def blob_id(contents: bytes) -> str:
    """Git's SHA-1 id of a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()
