"""Bytes to a document: text, notebooks as text, the rules on contents, and what identifies the bytes."""

import hashlib
from dataclasses import dataclass

from codelm.config.cleaning import FiltersSection
from codelm.data.documents import Document, Drop
from codelm.data.filters import decode, text_reason
from codelm.data.notebooks import NotebookForm, notebook_text


@dataclass(frozen=True)
class Provenance:
    """Where bytes come from, as a `Document` records it; `blob` is None where nobody named it yet."""

    path: str
    repository: str
    commit: str | None
    language: str
    licence: str | None
    blob: str | None = None
    changed: int | None = None


def make_document(
    contents: bytes, source: Provenance, filters: FiltersSection, notebooks: NotebookForm = "script"
) -> Document | Drop:
    """The document of a file's bytes, or the reason why they make none."""
    if len(contents) > filters.max_file_bytes:
        return Drop(source.language, "too_large")
    text, reason = decode(contents)
    if reason is None and source.language == "jupyter":
        converted = notebook_text(text, notebooks)
        text, reason = converted or "", "not_a_notebook" if converted is None else None
    reason = reason or text_reason(text, source.language, filters)
    if reason is not None:
        return Drop(source.language, reason)
    return identified(text, contents, source)


def identified(
    text: str, contents: bytes, source: Provenance, trained: tuple[tuple[int, int], ...] | None = None
) -> Document:
    """A document with the ids of the bytes that its text was made from."""
    return Document(
        text=text,
        path=source.path,
        repository=source.repository,
        commit=source.commit,
        language=source.language,
        licence=source.licence,
        blob=source.blob or blob_id(contents),
        digest=hashlib.blake2b(contents, digest_size=16).digest(),
        trained=trained,
        changed=source.changed,
    )


def blob_id(contents: bytes) -> str:
    """Git's SHA-1 id of a file with these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(contents) + contents, usedforsecurity=False).hexdigest()
