"""Near duplicates of real files: found as exact similarities say, whatever the partitions, the memory, the workers."""

import random
import re
import sysconfig
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from codelm.config.cleaning import NearDuplicatesSection
from codelm.data.dedup import near_duplicates
from codelm.data.dedup.clusters import best_of, connect
from codelm.data.dedup.minhash import NO_SIGNATURE, signatures
from codelm.data.dedup.near_duplicates import (
    Comparison,
    Signatures,
    band_tasks,
    cluster_documents,
    edge_tasks,
    find_signatures,
    least_equal,
)
from codelm.data.engines.local import LocalEngine

SECTION = NearDuplicatesSection()


def changed_copies() -> list[str]:
    """Files of the standard library, each with up to three copies that lack some of its lines, in any order."""
    draw = random.Random(0)
    texts = []
    for folder in ("asyncio", "json", "xml"):
        for path in sorted(Path(sysconfig.get_path("stdlib"), folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            texts.append(text)
            for _ in range(draw.randrange(4)):
                lost = draw.choice([0.001, 0.01, 0.03, 0.1])
                texts.append("\n".join(line for line in text.split("\n") if draw.random() > lost))
    draw.shuffle(texts)
    return texts


TEXTS = changed_copies()
ROWS = signatures(TEXTS, SECTION)


def stored(rows: np.ndarray, folder: Path, cuts: Sequence[int] = ()) -> Signatures:
    """Signatures as partitions that end at `cuts`."""
    for index, part in enumerate(np.split(rows, list(cuts))):
        (folder / f"{index:05}").mkdir(parents=True)
        np.save(folder / f"{index:05}" / "signatures.npy", part)
    return find_signatures(folder, len(cuts) + 1)


def clusters_of(
    rows: np.ndarray,
    folder: Path,
    cuts: Sequence[int] = (),
    section: NearDuplicatesSection = SECTION,
    workers: int = 1,
    memory_bytes: int = near_duplicates.MEMORY_BYTES,
) -> np.ndarray:
    with LocalEngine(workers) as engine:
        return cluster_documents(
            stored(rows, folder / "in", cuts), section, folder / "work", folder / "scratch", engine, memory_bytes
        )


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return clusters_of(ROWS, tmp_path_factory.mktemp("expected"))


def test_clusters_agree_with_exact_similarities(expected: np.ndarray) -> None:
    sets = []
    for text in TEXTS:
        tokens = re.findall(r"\w+", text, re.ASCII)
        sets.append(set(zip(*(tokens[start:] for start in range(5)), strict=False)) if len(tokens) >= 10 else set())
    similar = {
        (one, two): len(sets[one] & sets[two]) / len(sets[one] | sets[two])
        for one, two in combinations(range(len(TEXTS)), 2)
        if sets[one] and sets[two]
    }
    together = {pair for pair in similar if expected[pair[0]] == expected[pair[1]]}
    near = {pair for pair, value in similar.items() if value >= 0.7}
    assert len(near) > 100
    assert {pair for pair, value in similar.items() if value >= 0.85} <= together
    assert len(near & together) >= 0.97 * len(near)
    exact = connect(len(TEXTS), [np.array(sorted(near))])
    assert sum(exact[one] == exact[two] for one, two in together) >= 0.95 * len(together)
    assert all(similar[pair] > 0.4 for pair in together)


def test_a_cluster_bears_the_number_of_its_first_document(expected: np.ndarray) -> None:
    assert (expected <= np.arange(len(TEXTS))).all()
    assert (expected[expected] == expected).all()


@pytest.mark.parametrize(
    ("cuts", "workers", "memory_bytes"),
    [
        ([10], 1, 1 << 20),
        ([0, 0, 7, 100, 100, 101], 1, 1 << 28),
        (list(range(1, len(TEXTS))), 1, 4096),
        ([50, 60], 2, 8192),
    ],
    ids=["two partitions", "empty partitions", "a partition each, little memory", "two workers"],
)
def test_clusters_do_not_depend_on_partitions_memory_and_workers(
    cuts: list[int], workers: int, memory_bytes: int, expected: np.ndarray, tmp_path: Path
) -> None:
    found = clusters_of(ROWS, tmp_path, cuts, workers=workers, memory_bytes=memory_bytes)
    assert found.dtype == np.int64
    assert (found == expected).all()
    assert not any((tmp_path / "scratch").iterdir())


def test_a_run_that_was_killed_goes_on_with_what_is_missing(expected: np.ndarray, tmp_path: Path) -> None:
    signed = stored(ROWS, tmp_path / "in", range(5, len(TEXTS), 5))

    class Killed(Exception): ...

    def killed_at(step: int, done: int) -> None:
        if done == step:
            raise Killed

    work, scratch = tmp_path / "work", tmp_path / "scratch"
    for step in (1, 2, 9, 15):
        with pytest.raises(Killed):
            cluster_documents(
                signed,
                SECTION,
                work,
                scratch,
                LocalEngine(1),
                progress=lambda done, total, step=step: killed_at(step, done),
            )
    before = {file: file.stat().st_mtime_ns for file in work.rglob("*.npy")}
    assert before
    assert (cluster_documents(signed, SECTION, work, scratch, LocalEngine(1)) == expected).all()
    assert all(file.stat().st_mtime_ns == written for file, written in before.items())


def test_progress_counts_every_task_once(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    signed = stored(ROWS, tmp_path / "in")
    cluster_documents(
        signed,
        SECTION,
        tmp_path / "work",
        tmp_path / "scratch",
        LocalEngine(1),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(done, 21) for done in range(1, 22)]


def test_texts_without_a_signature_are_alone(tmp_path: Path) -> None:
    rows = np.full((5, 128), NO_SIGNATURE)
    rows[[1, 3]] = ROWS[0]
    assert clusters_of(rows, tmp_path).tolist() == [0, 1, 2, 1, 4]


def test_a_corpus_without_documents(tmp_path: Path) -> None:
    assert clusters_of(ROWS[:0], tmp_path / "a", [0]).tolist() == []
    none = find_signatures(tmp_path / "b", 0)
    assert len(cluster_documents(none, SECTION, tmp_path / "c", tmp_path / "d", LocalEngine(1))) == 0


def like(row: np.ndarray, equal: int, seed: int) -> np.ndarray:
    """A signature with the first `equal` entries of `row`."""
    other = np.random.default_rng(seed).integers(0, 2**32, len(row), dtype=np.uint32)
    other[:equal] = row[:equal]
    return other


def test_sharing_a_band_is_not_enough_unless_it_is_asked_to_be(tmp_path: Path) -> None:
    rows = np.stack([ROWS[0], like(ROWS[0], 89, 1), ROWS[1], like(ROWS[1], 90, 2)])
    assert least_equal(SECTION) == 90
    assert clusters_of(rows, tmp_path / "verified").tolist() == [0, 1, 2, 2]
    unverified = NearDuplicatesSection(verify=False)
    assert clusters_of(rows, tmp_path / "not", section=unverified).tolist() == [0, 0, 2, 2]


def test_members_of_a_bucket_that_are_unlike_its_first_are_compared_with_each_other(tmp_path: Path) -> None:
    rows = np.stack([like(ROWS[0], 6, seed) for seed in (1, 2, 3, 2, 3, 4, 2)])
    for number, row in enumerate(rows):
        row[6:120:6] = number  # no band in common but the first
    assert clusters_of(rows, tmp_path).tolist() == [0, 1, 2, 1, 2, 5, 1]


def test_thousands_that_share_one_band_alone_take_no_time(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 2**32, (20_000, 128), dtype=np.uint32)
    rows[:, :6] = 7
    assert (clusters_of(rows, tmp_path) == np.arange(20_000)).all()


def test_what_is_dropped_is_like_something_kept(expected: np.ndarray, tmp_path: Path) -> None:
    signed = stored(ROWS, tmp_path, [20, 40])
    comparison = Comparison(signed, least_equal(SECTION), memory_bytes=1 << 16)
    kept = best_of(expected, [np.array([len(text) for text in TEXTS])], alike=comparison)
    for document in np.flatnonzero(~kept):
        others = np.flatnonzero(kept & (expected == expected[document]))
        assert comparison(np.stack([others, np.full_like(others, document)], axis=1)).any()
        assert (ROWS[others] == ROWS[document]).mean(axis=1).max() >= 0.7


def test_tasks_can_be_done_anywhere_in_any_order(expected: np.ndarray, tmp_path: Path) -> None:
    signed = stored(ROWS, tmp_path / "in", range(3, len(TEXTS), 3))
    work, scratch = tmp_path / "work", tmp_path / "scratch"
    for task in reversed(band_tasks(signed, SECTION, work, scratch)):
        near_duplicates.write_bands(task)
    tasks = edge_tasks(signed, SECTION, work, scratch, memory_bytes=1 << 13)
    assert len(tasks) == 40
    for task in random.Random(0).sample(tasks, len(tasks)):
        near_duplicates.write_edges(task)
    assert (near_duplicates.connected(signed, tasks) == expected).all()
