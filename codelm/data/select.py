"""Which of the kept documents go where, decided over the whole corpus at once: copies, the split, limits.

Works on some 60 bytes a document in arrays, so that a corpus of a hundred million files is decided in memory.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from codelm.config.data import DataConfig, SplitSection
from codelm.data.columns import STREAMS, Columns
from codelm.data.dedup.clusters import best_of
from codelm.data.documents import Counts
from codelm.data.split import draw, draw_names, is_since, share_below

SPLITS = ("train", "validation", "held_out")
TRAIN, VALIDATION, HELD_OUT = range(3)
LEFT_OUT = 255

Alike = Callable[[np.ndarray], np.ndarray]
"""From pairs of document numbers, int64 (pairs, 2), to whether they are near duplicates, bool (pairs,)."""


@dataclass(frozen=True)
class Selection:
    """For each document, in the order of the partitions: its split (an index of SPLITS) or LEFT_OUT."""

    split: np.ndarray
    """uint8 (n,)"""
    for_tokenizer: np.ndarray
    """bool (n,): drawn for training the tokenizer"""
    partition_start: np.ndarray
    """int64 (partitions + 1,)"""
    language: np.ndarray
    """uint8 (n,): an index of STREAMS"""
    bytes: np.ndarray
    """int64 (n,)"""

    @property
    def partitions(self) -> int:
        return len(self.partition_start) - 1

    def of_partition(self, index: int) -> slice:
        return slice(int(self.partition_start[index]), int(self.partition_start[index + 1]))

    def files_and_bytes(self, split: str) -> dict[str, tuple[int, int]]:
        """Files and bytes of a split by language, for the languages that have any."""
        in_split = self.split == SPLITS.index(split)
        files = np.bincount(self.language[in_split], minlength=len(STREAMS))
        size = np.bincount(self.language[in_split], weights=self.bytes[in_split], minlength=len(STREAMS))
        return {name: (int(files[code]), int(size[code])) for code, name in enumerate(STREAMS) if files[code]}

    def save(self, folder: Path) -> None:
        """Write one array a file."""
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The arrays as memory maps, read-only."""
        arrays: dict[str, Any] = {
            field.name: np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(cls)
        }
        return cls(**arrays)


def select(
    columns: Columns,
    partition_start: np.ndarray,
    clusters: np.ndarray | None,
    config: DataConfig,
    counts: Counts,
    alike: Alike | None = None,
) -> Selection:
    """Decide for every document, and count what is left out by reason.

    Args:
        columns: of all documents, in the order of the partitions.
        partition_start: int64 (partitions + 1,).
        clusters: int64 (n,), the number of the first document of each one's cluster of near duplicates; None where
            near duplicates are not looked for.
        alike: which pairs of documents are near duplicates of each other, not only through others; None: all of a
            cluster are.

    The reasons: `duplicate` (the same bytes as a document that is kept), `near_duplicate` (its cluster has a better
    one), `like_held_out` (its cluster is held out), `over_limit`.
    """
    split = _first_split(columns, clusters, config)
    _drop_copies(split, columns, clusters, config, counts, alike)
    if config.max_bytes_per_language is not None:
        over = _over_limit(columns, split, config.max_bytes_per_language, config.seed)
        _leave_out(over, "over_limit", split, columns, config, counts)
    sample = np.zeros(len(split), dtype=bool)
    if config.tokenizer.train is not None:
        order = draw(columns.digest, config.seed, "tokenizer")
        sample = _first_bytes(order, columns.bytes, split == TRAIN, config.tokenizer.train.sample_bytes)
    return Selection(split, sample, partition_start, columns.language, columns.bytes)


def groups(digest: np.ndarray, clusters: np.ndarray | None) -> np.ndarray:
    """The number of the first document of each one's group: documents with the same bytes, or of one cluster.

    Documents with the same bytes have the same signature, hence one cluster, unless they are too short to have any.
    """
    _, first, inverse = np.unique(digest, axis=0, return_index=True, return_inverse=True)
    same_bytes = first[inverse.reshape(-1)]
    return same_bytes if clusters is None else np.minimum(same_bytes, clusters[same_bytes])


def _first_split(columns: Columns, clusters: np.ndarray | None, config: DataConfig) -> np.ndarray:
    """The split of each document before copies are looked at, uint8 (n,)."""
    section = config.split
    split = _drawn(columns, clusters, section, config.seed)
    if section.held_out_repositories:
        split[columns.repositories_matching(section.held_out_repositories)] = HELD_OUT
    return split


def _drawn(columns: Columns, clusters: np.ndarray | None, section: SplitSection, seed: int) -> np.ndarray:
    if section.by == "repository":
        numbers = draw_names(columns.repository, seed)
    elif section.by == "cluster":
        # Hashed again: the least of several numbers is small more often than one.
        least = _smallest_of_group(draw(columns.digest, seed, "split"), groups(columns.digest, clusters))
        numbers = draw_names(least, seed)
    else:
        numbers = draw(columns.digest, seed, "split")
    if section.by == "time":
        assert section.since is not None
        return np.where(is_since(columns.changed, section.since), VALIDATION, TRAIN).astype(np.uint8)
    split = np.full(len(columns), TRAIN, dtype=np.uint8)
    split[share_below(numbers, section.validation + section.held_out)] = HELD_OUT
    split[share_below(numbers, section.validation)] = VALIDATION
    return split


def _smallest_of_group(numbers: np.ndarray, group: np.ndarray) -> np.ndarray:
    """For each document the smallest number in its group: it does not depend on the order of the sources."""
    smallest = np.full(len(numbers), np.iinfo(numbers.dtype).max, dtype=numbers.dtype)
    np.minimum.at(smallest, group, numbers)
    return smallest[group]


def _drop_copies(
    split: np.ndarray,
    columns: Columns,
    clusters: np.ndarray | None,
    config: DataConfig,
    counts: Counts,
    alike: Alike | None,
) -> None:
    """Keep the best document of each group, and nothing in training that is like a held-out one."""
    same_bytes = groups(columns.digest, None)
    group = same_bytes if clusters is None else np.minimum(same_bytes, clusters[same_bytes])
    reached = np.zeros(len(split), dtype=np.uint8)
    np.maximum.at(reached, group, split)
    behind = split < reached[group]
    _leave_out(behind, "like_held_out", split, columns, config, counts)
    if config.dedup.exact:
        _leave_out(~_best(same_bytes, columns, split), "duplicate", split, columns, config, counts)
    if clusters is not None:
        _leave_out(~_best(group, columns, split, alike), "near_duplicate", split, columns, config, counts)


def _best(group: np.ndarray, columns: Columns, split: np.ndarray, alike: Alike | None = None) -> np.ndarray:
    """Marks the best of the documents still there in each group, bool (n,): by licence, time, length, then order.

    With `alike`, those of a group that are unlike its best are judged among themselves.
    """
    ranks = (-columns.licence_rank.astype(np.int8), columns.changed, columns.bytes)
    return best_of(group, ranks, among=split != LEFT_OUT, alike=alike)


def _leave_out(
    which: np.ndarray, reason: str, split: np.ndarray, columns: Columns, config: DataConfig, counts: Counts
) -> None:
    which = which & (split != LEFT_OUT)
    for number, source in enumerate(config.sources):
        mine = columns.language[which & (columns.source == number)]
        for code, files in Counter(mine.tolist()).items():
            counts.of(source).drop(STREAMS[code], reason, files)
    split[which] = LEFT_OUT


def _over_limit(columns: Columns, split: np.ndarray, limit: int, seed: int) -> np.ndarray:
    order = draw(columns.digest, seed, "limit")
    over = np.zeros(len(columns), dtype=bool)
    for code in np.unique(columns.language):
        mine = (columns.language == code) & (split != LEFT_OUT)
        over |= mine & ~_first_bytes(order, columns.bytes, mine, limit)
    return over


def _first_bytes(order: np.ndarray, size: np.ndarray, among: np.ndarray, limit: int) -> np.ndarray:
    """Marks documents in the order of `order` until the next would pass the limit, bool (n,)."""
    candidates = np.flatnonzero(among)
    ranked = candidates[np.argsort(order[candidates], kind="stable")]
    chosen = np.zeros(len(size), dtype=bool)
    chosen[ranked[np.cumsum(size[ranked]) <= limit]] = True
    return chosen
