"""Fill in the middle, made when a row is read, so that the same shards serve with and without it.

A row falls into segments at its special tokens: documents, parts of documents that a row begins or ends with, or files
of a repository. A share of them is decoded, split at two characters, encoded in three parts, and laid out as

    PSM   <fim_prefix> prefix <fim_suffix> suffix <fim_middle> middle
    SPM   <fim_prefix> <fim_suffix> suffix <fim_middle> prefix middle

after "Efficient Training of Language Models to Fill in the Middle" (arXiv 2207.14255); this SPM is SantaCoder's and
StarCoder's. What ended the segment, such as the end-of-text token, ends it still. The random numbers are a hash of
(seed, position, number of the segment): every rank and worker makes the same row, and another epoch, where the sample
is at another position, makes another.

A row keeps its length. What the three pieces and the new token borders add is taken from padding at the row's end; what
does not fit there is cut from the transformed segment itself, where it is farthest from the middle: the end of the
suffix, then the beginning of the prefix. So the middle and the token that ends it are whole, and no other document
changes. `FimCounts` says how much was cut.
"""

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from codelm.data.permutation import mix_key
from codelm.errors import TokenizerError
from codelm.tokenizer import Tokenizer

log = logging.getLogger(__name__)

PIECES = ("fim_prefix", "fim_suffix", "fim_middle")
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class FimSettings:
    """`rate`: the share of segments; `spm_rate`: the share of those that are laid out as SPM, the others as PSM."""

    rate: float = 0.5
    spm_rate: float = 0.5


@dataclass(frozen=True)
class FimCounts:
    """What happened to the segments of one or more rows."""

    documents: int = 0
    """Segments that could be transformed."""
    transformed: int = 0
    tokens: int = 0
    """Of the rows."""
    tokens_added: int = 0
    """By the three pieces and by encoding in parts; negative where the parts encode to fewer."""
    tokens_cut: int = 0
    """Of suffixes and prefixes, since they did not fit."""

    def __add__(self, other: "FimCounts") -> "FimCounts":
        return FimCounts(
            self.documents + other.documents,
            self.transformed + other.transformed,
            self.tokens + other.tokens,
            self.tokens_added + other.tokens_added,
            self.tokens_cut + other.tokens_cut,
        )


@dataclass
class _Parts:
    """A transformed segment: its three parts as ids."""

    first: int
    """Where the segment was in the row."""
    end: int
    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    suffix_first: bool

    @property
    def growth(self) -> int:
        return len(PIECES) + len(self.prefix) + len(self.middle) + len(self.suffix) - (self.end - self.first)

    def cut(self, tokens: int) -> None:
        """Take tokens away, farthest from the middle first."""
        from_suffix = min(tokens, len(self.suffix))
        self.suffix = self.suffix[: len(self.suffix) - from_suffix]
        self.prefix = self.prefix[tokens - from_suffix :]


class Fim:
    """Makes rows to fill in the middle of.

    Raises:
        TokenizerError: when the tokenizer lacks one of the three pieces.
    """

    def __init__(self, tokenizer: Tokenizer, settings: FimSettings, seed: int) -> None:
        special = tokenizer.special_ids
        absent = [f"<{piece}>" for piece in PIECES if piece not in special]
        if absent:
            raise TokenizerError(
                f"train_data.fim: the tokenizer {tokenizer.path} has no piece {', '.join(absent)}; take fim out, or"
                " prepare the data with a tokenizer that has them, such as one that data_prep trains"
            )
        if not tokenizer.lossless:
            log.warning("fim: the tokenizer %s does not bring every text back exactly", tokenizer.path)
        self.settings = settings
        self._tokenizer = tokenizer
        self._seed = seed
        self._prefix, self._suffix, self._middle = (special[piece] for piece in PIECES)
        self._file_sep, self._repo_name = special.get("file_sep"), special.get("repo_name")
        self._special = np.zeros(tokenizer.vocab_size, dtype=bool)
        self._special[[tokenizer.eos_id, tokenizer.pad_id, *special.values()]] = True

    def apply(self, row: np.ndarray, position: int) -> tuple[np.ndarray, FimCounts]:
        """The row at a global position as training sees it, both (seq,) of the same dtype, and what was done.

        The row itself is not changed.
        """
        position, segments = int(position), self._segments(row)
        chosen = [
            parts
            for number, (first, end) in enumerate(segments)
            if self._uniform(position, number, 0) < self.settings.rate
            and (parts := self._transform(row, first, end, position, number)) is not None
        ]
        grown = sum(parts.growth for parts in chosen)
        excess = max(grown - self._padding(row), 0)
        still = excess
        for parts in chosen:
            taken = min(still, max(parts.growth, 0))
            parts.cut(taken)
            still -= taken
        counts = FimCounts(len(segments), len(chosen), len(row), grown, excess)
        return (self._laid_out(row, chosen), counts) if chosen else (row, counts)

    def _segments(self, row: np.ndarray) -> list[tuple[int, int]]:
        """The runs of text, from first to end (exclusive), that may be transformed."""
        borders = np.flatnonzero(self._special[row])
        first = np.concatenate([[0], borders + 1])
        end = np.append(borders, len(row))
        # A repository's name is no text to fill in.
        named = np.concatenate([[False], row[borders] == self._repo_name])
        wanted = (end > first) & ~named
        return list(zip(first[wanted].tolist(), end[wanted].tolist(), strict=True))

    def _transform(self, row: np.ndarray, first: int, end: int, position: int, number: int) -> _Parts | None:
        """The parts of a segment; None where it must stay as it is."""
        text = self._tokenizer.decode(row[first:end].tolist())
        # A row may begin or end inside a character, which would not come back.
        if _REPLACEMENT in text:
            return None
        # The path of a repository's file stays in front.
        head = text.find("\n") + 1 if first > 0 and row[first - 1] == self._file_sep else 0
        one, other = (head + self._below(len(text) - head + 1, position, number, draw) for draw in (1, 2))
        begin, stop = min(one, other), max(one, other)
        encode = self._tokenizer.encode
        parts = _Parts(
            first=first,
            end=end,
            prefix=encode(text[:begin]),
            middle=encode(text[begin:stop]),
            suffix=encode(text[stop:]),
            suffix_first=self._uniform(position, number, 3) < self.settings.spm_rate,
        )
        # Without so much to cut, a segment of a few tokens could push others out of the row.
        return parts if len(parts.prefix) + len(parts.suffix) >= parts.growth else None

    def _laid_out(self, row: np.ndarray, chosen: list[_Parts]) -> np.ndarray:
        pieces: list[np.ndarray] = []
        done = 0
        for parts in chosen:
            if parts.suffix_first:
                ids = [self._prefix, self._suffix, *parts.suffix, self._middle, *parts.prefix, *parts.middle]
            else:
                ids = [self._prefix, *parts.prefix, self._suffix, *parts.suffix, self._middle, *parts.middle]
            pieces += [row[done : parts.first], np.array(ids, dtype=row.dtype)]
            done = parts.end
        pieces.append(row[done:])
        made = np.concatenate(pieces)
        # Only padding is cut here, and shorter parts leave room for more of it.
        padding = np.full(max(len(row) - len(made), 0), self._tokenizer.eos_id, dtype=row.dtype)
        return np.concatenate([made[: len(row)], padding])

    def _padding(self, row: np.ndarray) -> int:
        """The end-of-text tokens at the end of the row beyond the one that ends its last document."""
        others = np.flatnonzero(row != self._tokenizer.eos_id)
        return max(len(row) - (int(others[-1]) if len(others) else -1) - 2, 0)

    def _hash(self, *numbers: int) -> int:
        return mix_key(self._seed, *numbers)

    def _uniform(self, *numbers: int) -> float:
        """From 0 to 1 (exclusive)."""
        return (self._hash(*numbers) >> 11) / 2.0**53

    def _below(self, limit: int, *numbers: int) -> int:
        """A whole number from 0 to `limit` (exclusive)."""
        return self._hash(*numbers) * limit >> 64


class Rows(Protocol):
    """Random access to rows of token ids."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


def measure(reader: Rows, fim: Fim, rows: int = 200) -> FimCounts:
    """What becomes of `rows` rows spread over a stream: for reports, how much is transformed and cut."""
    total = FimCounts()
    count = min(rows, len(reader))
    for number in range(count):
        total += fim.apply(reader[number * len(reader) // count], number)[1]
    return total
