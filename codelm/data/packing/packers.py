"""Documents of token ids into rows, two ways: one after another and cut anywhere, or cut as little as rows allow.

Every file of a document keeps a line of its own in `documents.jsonl`, with the place of its tokens: `start` is
row × max_seq_len + offset. A file that is cut into several places has a line for each, numbered by `part`.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol, TextIO

import numpy as np

from codelm.data.packing.best_fit import best_fit
from codelm.data.shards import MASK_DTYPE, ShardWriter
from codelm.data.store import json_line

_BLOCK_TOKENS = 1 << 20
WINDOW_PIECES = 100_000
WINDOW_TOKENS = 1 << 23
"""How much best-fit looks at together. More saves no row in a thousand, and costs memory (measured in docs/fim.md)."""


@dataclass(frozen=True)
class TokenDocument:
    """A document as token ids, its end-of-text token last; `files` are what it is made of, in order."""

    tokens: np.ndarray
    """(n,)"""
    files: list[dict[str, Any]]
    """The fields of the lines of `documents.jsonl`; their `tokens` add up to n."""
    loss_mask: np.ndarray | None = None
    """uint8 (n,): 1 where a token is predicted with loss; None means everywhere."""


@dataclass
class Figures:
    """What became of the documents of a stream."""

    files: int = 0
    bytes: int = 0
    tokens: int = 0
    """Of the documents that were given rows, without padding."""
    padding: int = 0
    """End-of-text tokens that fill up rows."""
    cut_documents: int = 0
    """Documents that are in more than one row."""
    truncated: int = 0
    """Conversations longer than a row, of which the first row is kept."""
    left_out: int = 0
    """Conversations without a token with loss in their first row."""
    lost_tokens: int = 0
    """Tokens of those that are in no row."""
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Files, bytes, tokens and licences by the lines' `source`, where they name one."""
    licences: dict[str, int] = field(default_factory=dict)
    """Files by the lines' `licence`; `unknown` where there is none."""

    def count(self, document: TokenDocument) -> None:
        self.tokens += len(document.tokens)
        for fields in document.files:
            # A file that was cut before, in a corpus that is packed again, counts once.
            first = not fields.get("part")
            self.files += first
            self.bytes += first * fields["bytes"]
            licence = fields.get("licence") or "unknown"
            if first:
                self.licences[licence] = self.licences.get(licence, 0) + 1
            if (source := fields.get("source")) is not None:
                share = self.sources.setdefault(source, {"files": 0, "bytes": 0, "tokens": 0, "licences": {}})
                share["files"] += first
                share["bytes"] += first * fields["bytes"]
                share["tokens"] += fields["tokens"]
                if first:
                    share["licences"][licence] = share["licences"].get(licence, 0) + 1


class Packer(Protocol):
    """Takes documents in order; `finish` when there are no more."""

    figures: Figures

    def add(self, document: TokenDocument) -> None: ...

    def finish(self) -> None: ...


class ConcatPacker:
    """Documents one after another, cut into rows wherever a row ends; what fills no row is never written."""

    def __init__(self, writer: ShardWriter, lines: TextIO) -> None:
        self.figures = Figures()
        self._writer, self._lines = writer, lines
        self._waiting: list[np.ndarray] = []
        self._waiting_tokens = 0

    def add(self, document: TokenDocument) -> None:
        length, start = self._writer.max_seq_len, self.figures.tokens
        for fields in document.files:
            _write_line(self._lines, fields, start)
            start += fields["tokens"]
        self.figures.cut_documents += (self.figures.tokens // length) != ((start - 1) // length)
        self.figures.count(document)
        self._waiting.append(document.tokens)
        self._waiting_tokens += len(document.tokens)
        if self._waiting_tokens >= _BLOCK_TOKENS:
            self._write()

    def finish(self) -> None:
        self._write()

    def _write(self) -> None:
        if self._waiting:
            self._writer.write(np.concatenate(self._waiting))
        self._waiting, self._waiting_tokens = [], 0


@dataclass(frozen=True)
class _Piece:
    """What goes into one row as a whole: a document, or a row's length of it, or its rest."""

    tokens: np.ndarray
    loss_mask: np.ndarray | None
    files: list[dict[str, Any]]


class BestFitPacker:
    """Documents longer than a row are cut into full rows and a rest; rests and other documents are fitted into rows.

    What room is left at the end of a row is filled with end-of-text tokens (loss mask 0). Rows are in the order of the
    first document they hold, and a row's documents in theirs. With a loss mask a document is never cut: of one longer
    than a row the first row is kept, and one without loss in its first row is left out.
    """

    def __init__(
        self,
        writer: ShardWriter,
        lines: TextIO,
        eos_id: int,
        window_pieces: int = WINDOW_PIECES,
        window_tokens: int = WINDOW_TOKENS,
    ) -> None:
        self.figures = Figures()
        self._writer, self._lines, self._eos_id = writer, lines, eos_id
        self._window_pieces = window_pieces
        self._window_tokens = max(window_tokens, 1024 * writer.max_seq_len)
        self._pieces: list[_Piece] = []
        self._tokens = 0

    def add(self, document: TokenDocument) -> None:
        length = self._writer.max_seq_len
        if document.loss_mask is not None:
            kept = self._first_row(document)
            if kept is None:
                return
            document = kept
        self.figures.count(document)
        cut_before = any(fields.get("part") == 1 for fields in document.files)
        self.figures.cut_documents += cut_before or len(document.tokens) > length
        for piece in _cut(document, length):
            self._pieces.append(piece)
            self._tokens += len(piece.tokens)
            if len(self._pieces) >= self._window_pieces or self._tokens >= self._window_tokens:
                self.finish()

    def finish(self) -> None:
        """Write the rows of the window; called again, it begins another."""
        if not self._pieces:
            return
        length, pieces = self._writer.max_seq_len, self._pieces
        lengths = np.array([len(piece.tokens) for piece in pieces], dtype=np.int64)
        row_of = _in_order_of_first(best_fit(lengths, length))
        by_row = np.argsort(row_of, kind="stable")
        ends = np.cumsum(lengths[by_row])
        before_row = np.searchsorted(row_of[by_row], row_of[by_row])
        offset = ends - lengths[by_row] - (ends - lengths[by_row])[before_row]
        start = row_of[by_row] * length + offset
        rows = np.full((int(row_of.max()) + 1) * length, self._eos_id, dtype=self._writer.dtype)
        mask = np.zeros(len(rows), dtype=MASK_DTYPE) if self._writer.loss_mask else None
        written = self._writer.samples * length
        for number, first in zip(by_row.tolist(), start.tolist(), strict=True):
            piece = pieces[number]
            end = first + len(piece.tokens)
            rows[first:end] = piece.tokens
            if mask is not None:
                mask[first:end] = 1 if piece.loss_mask is None else piece.loss_mask
            place = written + first
            for fields in piece.files:
                _write_line(self._lines, fields, place)
                place += fields["tokens"]
        self.figures.padding += len(rows) - self._tokens
        self._writer.write_rows(rows.reshape(-1, length), None if mask is None else mask.reshape(-1, length))
        self._pieces, self._tokens = [], 0

    def _first_row(self, document: TokenDocument) -> TokenDocument | None:
        """The document cut after a row; None when nothing in it would be learnt."""
        assert document.loss_mask is not None
        length = self._writer.max_seq_len
        # A document's first token is never predicted.
        if not document.loss_mask[1:length].any():
            self.figures.left_out += 1
            self.figures.lost_tokens += len(document.tokens)
            return None
        if len(document.tokens) <= length:
            return document
        self.figures.truncated += 1
        self.figures.lost_tokens += len(document.tokens) - length
        first = next(_cut(document, length))
        files = [{key: value for key, value in fields.items() if key != "part"} for fields in first.files]
        return TokenDocument(first.tokens, files, first.loss_mask)


def _cut(document: TokenDocument, length: int) -> Iterator[_Piece]:
    """The pieces of a document, all but the last of a row's length."""
    total = len(document.tokens)
    if total <= length:
        yield _Piece(document.tokens, document.loss_mask, document.files)
        return
    ends = list(accumulate(fields["tokens"] for fields in document.files))
    for first in range(0, total, length):
        end = min(first + length, total)
        files = []
        for number in range(bisect_right(ends, first), bisect_left(ends, end) + 1):
            fields, file_end = document.files[number], ends[number]
            file_start = file_end - fields["tokens"]
            part = {"tokens": min(end, file_end) - max(first, file_start)}
            if part["tokens"] < fields["tokens"]:
                part["part"] = first // length - file_start // length
            files.append({**fields, **part})
        mask = None if document.loss_mask is None else document.loss_mask[first:end]
        yield _Piece(document.tokens[first:end], mask, files)


def _in_order_of_first(row_of: np.ndarray) -> np.ndarray:
    """Rows numbered anew, in the order of the first piece of each."""
    _, first_piece = np.unique(row_of, return_index=True)
    number = np.empty(len(first_piece), dtype=np.int64)
    number[np.argsort(first_piece, kind="stable")] = np.arange(len(first_piece))
    return number[row_of]


def _write_line(lines: TextIO, fields: dict[str, Any], start: int) -> None:
    lines.write(json_line({**fields, "start": start}))
