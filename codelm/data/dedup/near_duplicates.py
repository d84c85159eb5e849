"""Near duplicates in a corpus of any size, from the MinHash signatures of its partitions.

Signatures are cut into bands; documents that agree in a whole band share a bucket (locality-sensitive hashing, as in
Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", chapter 3). Buckets are found by sorting, a band and a
range of hashes at a time; the members of a bucket whose signatures are alike enough are joined, and what is joined
through others is one cluster. Documents are numbered through all partitions in order. What is found depends on the
signatures and their order alone, not on how they are partitioned, on memory or workers.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codelm.config.cleaning import NearDuplicatesSection
from codelm.data.dedup.clusters import connect
from codelm.data.dedup.minhash import band_hashes, has_signature, optimal_bands
from codelm.data.engines.local import Engine, whole_folder
from codelm.files import sync_to_disk

SIGNATURES_FILE = "signatures.npy"
MEMORY_BYTES = 1 << 28
MISSED_WHEN_VERIFIED = 0.9
"""`missed` of `optimal_bands` where pairs are verified: what is found below the threshold then costs time alone."""

_PARTITIONS_TOGETHER = 64  # whose bands are one set of files, so that a band of a large corpus is in few of them
_BYTES_PER_ENTRY = 64  # of a band, while it is sorted
_ROUNDS = 16
_EDGES_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Signatures:
    """The signatures of a corpus: `<folder>/<partition>/signatures.npy`, uint32 (documents, permutations)."""

    folder: Path
    start: np.ndarray
    """int64 (partitions + 1,): the number of each partition's first document, then of all documents"""

    def open(self, partition: int) -> np.ndarray:
        """A partition's signatures, mapped."""
        return np.load(self.folder / f"{partition:05}" / SIGNATURES_FILE, mmap_mode="r")

    @property
    def documents(self) -> int:
        return int(self.start[-1])

    @property
    def partitions(self) -> int:
        return len(self.start) - 1


def find_signatures(folder: Path, partitions: int) -> Signatures:
    """The signatures of partitions 0 … partitions - 1."""
    found = Signatures(folder, np.zeros(partitions + 1, dtype=np.int64))
    found.start[1:] = np.cumsum([len(found.open(index)) for index in range(partitions)])
    return found


def bands_of(section: NearDuplicatesSection) -> tuple[int, int]:
    """The bands and rows that a corpus is searched with."""
    missed = MISSED_WHEN_VERIFIED if section.verify else 0.5
    return optimal_bands(section.threshold, section.num_permutations, missed)


def least_equal(section: NearDuplicatesSection) -> int:
    """How many entries of two signatures must be equal for their documents to be joined; 0 when none are compared."""
    return math.ceil(section.threshold * section.num_permutations - 1e-9) if section.verify else 0


@dataclass(frozen=True)
class BandTask:
    """Hash the bands of some partitions in a row."""

    signatures: Signatures
    partitions: range
    bands: int
    rows: int
    output: Path
    scratch: Path


def write_bands(task: BandTask) -> None:
    """Writes a task's `hashes.npy`, uint64, and `documents.npy`, int64 numbers, each (bands, documents).

    Every band is in the order of its hashes, and of its documents where hashes are equal.
    """
    if task.output.exists():
        return
    hashes, documents = [np.empty((task.bands, 0), np.uint64)], [np.empty(0, np.int64)]
    for index in task.partitions:
        signatures = np.asarray(task.signatures.open(index))
        long_enough = np.flatnonzero(has_signature(signatures))
        hashes.append(band_hashes(signatures[long_enough], task.bands, task.rows))
        documents.append(task.signatures.start[index] + long_enough)
    hashed, numbers = np.concatenate(hashes, axis=1), np.concatenate(documents)
    order = np.argsort(hashed, axis=1, kind="stable")
    with whole_folder(task.output, task.scratch) as folder:
        _save(np.take_along_axis(hashed, order, axis=1), folder / "hashes.npy")
        _save(numbers[order], folder / "documents.npy")


@dataclass(frozen=True)
class EdgeTask:
    """Find near duplicates in the buckets of one band whose hashes are from `low` to below `high`."""

    signatures: Signatures
    bands: tuple[Path, ...]
    """the outputs of all `BandTask`s, in order"""
    band: int
    low: int
    high: int
    least: int
    """see `least_equal`"""
    output: Path
    scratch: Path
    memory_bytes: int


def write_edges(task: EdgeTask) -> None:
    """Writes a task's `edges.npy`: pairs of near duplicates, int64 (pairs, 2), each with the smaller number first."""
    if task.output.exists():
        return
    hashes, documents = _band_range(task)
    order = np.argsort(hashes, kind="stable")  # stable: the documents of a bucket stay in order
    hashes, documents = hashes[order], documents[order]
    del order
    bucket = np.cumsum(np.diff(hashes, prepend=hashes[:1]) != 0)
    with whole_folder(task.output, task.scratch) as folder:
        _save(np.concatenate([np.empty((0, 2), np.int64), *_edges(bucket, documents, task)]), folder / "edges.npy")


def _band_range(task: EdgeTask) -> tuple[np.ndarray, np.ndarray]:
    hashes, documents = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for folder in task.bands:
        mine = np.load(folder / "hashes.npy", mmap_mode="r")[task.band]
        low = np.searchsorted(mine, np.uint64(task.low))
        high = len(mine) if task.high == 1 << 64 else np.searchsorted(mine, np.uint64(task.high))
        hashes.append(np.array(mine[low:high]))
        documents.append(np.array(np.load(folder / "documents.npy", mmap_mode="r")[task.band, low:high]))
    return np.concatenate(hashes), np.concatenate(documents)


def _edges(bucket: np.ndarray, documents: np.ndarray, task: EdgeTask) -> Iterator[np.ndarray]:
    """Compare a bucket's members with its first; those unlike it are the bucket of the next round.

    After `_ROUNDS` rounds the rest of a bucket is let go: some buckets hold many documents that share little more than
    the band (a licence's text), and comparing all their pairs would take for ever.
    """
    alike = Comparison(task.signatures, task.least, task.memory_bytes)
    for _ in range(_ROUNDS):
        several = np.bincount(bucket)[bucket] > 1
        bucket, documents = bucket[several], documents[several]
        if not len(bucket):
            return
        first = np.append(True, bucket[1:] != bucket[:-1])
        members = np.flatnonzero(~first)
        leaders = np.flatnonzero(first)[np.cumsum(first)[members] - 1]
        pairs = np.stack([documents[leaders], documents[members]], axis=1)
        same = alike(pairs)
        yield pairs[same]
        bucket, documents = bucket[members[~same]], documents[members[~same]]


class Comparison:
    """Tells which pairs of documents have signatures that agree in `least` entries; with `least` 0 all pairs do."""

    _MOST_MAPPED = 4096  # Linux allows a process some 65,000 mappings

    def __init__(self, signatures: Signatures, least: int, memory_bytes: int = MEMORY_BYTES) -> None:
        self._signatures = signatures
        self._least = least
        self._memory_bytes = memory_bytes
        self._mapped: dict[int, np.ndarray] = {}

    def __call__(self, pairs: np.ndarray) -> np.ndarray:
        """bool (pairs,) of pairs of document numbers, int64 (pairs, 2)"""
        alike = np.ones(len(pairs), dtype=bool)
        if not self._least or not len(pairs):
            return alike
        step = max(1, self._memory_bytes // (16 * self._open(0).shape[1]))
        for low in range(0, len(pairs), step):
            part = pairs[low : low + step]
            equal = self._rows(part[:, 0]) == self._rows(part[:, 1])
            alike[low : low + step] = np.count_nonzero(equal, axis=1) >= self._least
        return alike

    def _rows(self, documents: np.ndarray) -> np.ndarray:
        found = np.empty((len(documents), self._open(0).shape[1]), dtype=np.uint32)
        start = self._signatures.start
        partition = np.searchsorted(start, documents, side="right") - 1
        order = np.argsort(partition, kind="stable")
        for places in np.split(order, np.flatnonzero(np.diff(partition[order])) + 1):
            index = int(partition[places[0]])
            found[places] = self._open(index)[documents[places] - start[index]]
        return found

    def _open(self, partition: int) -> np.ndarray:
        if partition not in self._mapped:
            if len(self._mapped) >= self._MOST_MAPPED:
                self._mapped.clear()
            self._mapped[partition] = self._signatures.open(partition)
        return self._mapped[partition]


def band_tasks(signatures: Signatures, section: NearDuplicatesSection, work: Path, scratch: Path) -> list[BandTask]:
    """The tasks of `write_bands`, which leave their output below `work`."""
    bands, rows = bands_of(section)
    starts = range(0, signatures.partitions, _PARTITIONS_TOGETHER)
    parts = [range(start, min(start + _PARTITIONS_TOGETHER, signatures.partitions)) for start in starts]
    return [BandTask(signatures, part, bands, rows, work / "bands" / f"{part.start:05}", scratch) for part in parts]


def edge_tasks(
    signatures: Signatures,
    section: NearDuplicatesSection,
    work: Path,
    scratch: Path,
    memory_bytes: int = MEMORY_BYTES,
) -> list[EdgeTask]:
    """The tasks of `write_edges`, for when all of `band_tasks` are done; each needs some `memory_bytes`.

    A bucket is never divided: a million copies of one text need 64 MB whatever is asked for.
    """
    parts = max(1, math.ceil(signatures.documents * _BYTES_PER_ENTRY / memory_bytes))
    written = tuple(task.output for task in band_tasks(signatures, section, work, scratch))
    return [
        EdgeTask(
            signatures=signatures,
            bands=written,
            band=band,
            low=(part << 64) // parts,
            high=((part + 1) << 64) // parts,
            least=least_equal(section),
            output=work / "edges" / f"{band:03}-{part:05}-of-{parts:05}",
            scratch=scratch,
            memory_bytes=memory_bytes,
        )
        for band in range(bands_of(section)[0])
        for part in range(parts)
    ]


def connected(signatures: Signatures, tasks: list[EdgeTask]) -> np.ndarray:
    """The clusters that the edges of all `edge_tasks` make, int64 (documents,); see `connect`."""

    def edges() -> Iterator[np.ndarray]:
        for task in tasks:
            pairs = np.load(task.output / "edges.npy", mmap_mode="r")
            for low in range(0, len(pairs), _EDGES_AT_ONCE):
                yield np.asarray(pairs[low : low + _EDGES_AT_ONCE])

    return connect(signatures.documents, edges())


def cluster_documents(
    signatures: Signatures,
    section: NearDuplicatesSection,
    work: Path,
    scratch: Path,
    engine: Engine,
    memory_bytes: int = MEMORY_BYTES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The cluster of each document, int64 (documents,): the number of the cluster's first document.

    What the steps leave below `work` is whole or absent, so that a run that was killed goes on with what is missing.
    `progress` is told the tasks done and their number. The engine must do all tasks, not a share of them.
    """
    result = work / "clusters"
    if not result.exists():
        bands = band_tasks(signatures, section, work, scratch)
        edges = edge_tasks(signatures, section, work, scratch, memory_bytes)
        total = len(bands) + len(edges)
        for done in engine.each(write_bands, bands):
            progress(done + 1, total)
        for done in engine.each(write_edges, edges):
            progress(len(bands) + done + 1, total)
        with whole_folder(result, scratch) as folder:
            _save(connected(signatures, edges), folder / "clusters.npy")
    return np.load(result / "clusters.npy")


def _save(array: np.ndarray, file: Path) -> None:
    np.save(file, array)
    sync_to_disk(file)
