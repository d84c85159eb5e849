"""Which of the kept documents go where, decided over the whole corpus at once: duplicates, limits, the split.

Works on some 40 bytes a document, so that a corpus of millions of files is decided in memory.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from codelm.config.data import DataConfig
from codelm.data.documents import Counts
from codelm.data.split import draw, held_out
from codelm.data.store import Record

SPLITS = ("train", "validation")
LEFT_OUT = 255


@dataclass(frozen=True)
class Selection:
    """For each document, in the order of the partitions: its split (an index of SPLITS) or LEFT_OUT."""

    split: np.ndarray
    """uint8 (n,)"""
    for_tokenizer: np.ndarray
    """bool (n,): drawn for training the tokenizer"""
    partition_start: np.ndarray
    """int64 (partitions + 1,)"""
    languages: list[str]
    language: np.ndarray
    """uint8 (n,): an index of `languages`"""
    bytes: np.ndarray
    """int64 (n,)"""

    def of_partition(self, index: int) -> slice:
        return slice(int(self.partition_start[index]), int(self.partition_start[index + 1]))

    def files_and_bytes(self, split: str) -> dict[str, tuple[int, int]]:
        """Files and bytes of a split by language, for the languages that have any."""
        in_split = self.split == SPLITS.index(split)
        found = {}
        for code, name in enumerate(self.languages):
            mine = in_split & (self.language == code)
            if mine.any():
                found[name] = (int(mine.sum()), int(self.bytes[mine].sum()))
        return found


def select(partitions: Iterable[Iterable[Record]], config: DataConfig, counts: Counts) -> Selection:
    """Decide for every document; what is left out is counted as `duplicate` or `over_limit`."""
    digests, sizes, codes, starts = bytearray(), [], [], [0]
    known: dict[str, int] = {}
    for records in partitions:
        for record in records:
            digests += bytes.fromhex(record.digest)
            sizes.append(record.bytes)
            codes.append(known.setdefault(record.language, len(known)))
        starts.append(len(sizes))
    names = sorted(known)
    recode = np.array([names.index(name) for name in known], dtype=np.uint8)
    language = recode[np.array(codes, dtype=np.int64)] if codes else np.empty(0, np.uint8)
    digest = np.frombuffer(bytes(digests), dtype="<u8").reshape(-1, 2)
    size = np.array(sizes, dtype=np.int64)

    split = np.where(held_out(digest, config.seed, config.split.validation), 1, 0).astype(np.uint8)
    if config.dedup.exact:
        _leave_out(~_first_of_each(digest), "duplicate", split, language, names, counts)
    if config.max_bytes_per_language is not None:
        over = _over_limit(digest, size, language, split, config.max_bytes_per_language, config.seed)
        _leave_out(over, "over_limit", split, language, names, counts)
    sample = np.zeros(len(split), dtype=bool)
    if config.tokenizer.train is not None:
        order = draw(digest, config.seed, "tokenizer")
        sample = _first_bytes(order, size, split == 0, config.tokenizer.train.sample_bytes)
    return Selection(split, sample, np.array(starts, dtype=np.int64), names, language, size)


def _leave_out(
    which: np.ndarray, reason: str, split: np.ndarray, language: np.ndarray, names: list[str], counts: Counts
) -> None:
    which = which & (split != LEFT_OUT)
    for code, files in Counter(language[which].tolist()).items():
        counts.drop(names[code], reason, files)
    split[which] = LEFT_OUT


def _first_of_each(digest: np.ndarray) -> np.ndarray:
    """Marks the first document of each digest, bool (n,)."""
    first = np.zeros(len(digest), dtype=bool)
    first[np.unique(digest, axis=0, return_index=True)[1]] = True
    return first


def _over_limit(
    digest: np.ndarray, size: np.ndarray, language: np.ndarray, split: np.ndarray, limit: int, seed: int
) -> np.ndarray:
    order = draw(digest, seed, "limit")
    over = np.zeros(len(size), dtype=bool)
    for code in np.unique(language):
        mine = (language == code) & (split != LEFT_OUT)
        over |= mine & ~_first_bytes(order, size, mine, limit)
    return over


def _first_bytes(order: np.ndarray, size: np.ndarray, among: np.ndarray, limit: int) -> np.ndarray:
    """Marks documents in the order of `order` until the next would pass the limit, bool (n,)."""
    candidates = np.flatnonzero(among)
    ranked = candidates[np.argsort(order[candidates], kind="stable")]
    chosen = np.zeros(len(size), dtype=bool)
    chosen[ranked[np.cumsum(size[ranked]) <= limit]] = True
    return chosen
