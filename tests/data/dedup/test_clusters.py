"""Clusters against plain union-find, and the rule that chooses what is kept."""

import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.dedup.clusters import best_of, connect

Edges = list[tuple[int, int]]


def one_by_one(number: int, edges: Edges) -> list[int]:
    cluster = list(range(number))
    for one, two in edges:
        low, high = sorted((cluster[one], cluster[two]))
        cluster = [low if mine == high else mine for mine in cluster]
    return cluster


@given(st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.tuples(*[st.integers(0, n - 1)] * 2)))))
@settings(max_examples=200, deadline=None)
def test_clusters_are_those_of_joining_one_by_one_whatever_the_order(given: tuple[int, Edges]) -> None:
    number, edges = given
    pairs = np.array(edges, dtype=np.int64).reshape(-1, 2)
    expected = one_by_one(number, edges)
    assert connect(number, [pairs]).tolist() == expected
    assert (
        connect(number, [pairs[::-1, ::-1][start : start + 3] for start in range(0, len(pairs), 3)]).tolist()
        == expected
    )


STEPS = np.arange(199_999)


@pytest.mark.parametrize(
    "edges",
    [
        np.stack([STEPS, STEPS + 1], axis=1),
        np.stack([STEPS, STEPS + 1], axis=1)[::-1],
        np.random.default_rng(0).permutation(np.stack([STEPS, STEPS + 1], axis=1)),
        np.stack([STEPS, np.full_like(STEPS, 199_999)], axis=1),
        np.random.default_rng(0).permutation(200_000)[np.stack([STEPS, STEPS + 1], axis=1)],
    ],
    ids=["chain", "backward chain", "shuffled chain", "star of the last", "chain of shuffled numbers"],
)
def test_hostile_shapes_take_no_time(edges: np.ndarray) -> None:
    started = time.process_time()
    assert not connect(200_000, [edges]).any()
    assert not connect(200_000, np.array_split(edges, 50)).any()
    assert time.process_time() - started < 5


def test_of_each_cluster_the_best_is_kept() -> None:
    draw = random.Random(0)
    number = 500
    clusters = connect(number, [np.array([[draw.randrange(number), draw.randrange(number)] for _ in range(300)])])
    licence = np.array([draw.randrange(3) for _ in range(number)], dtype=np.uint8)
    changed = np.array([draw.choice([-1.0, 10.0, 20.5]) for _ in range(number)])
    kept = np.flatnonzero(best_of(clusters, [licence, changed])).tolist()
    groups: dict[int, list[int]] = {}
    for document, cluster in enumerate(clusters.tolist()):
        groups.setdefault(cluster, []).append(document)
    best = [max(group, key=lambda d: (licence[d], changed[d], -d)) for group in groups.values()]
    assert kept == sorted(best)


def test_without_ranks_the_first_is_kept() -> None:
    assert best_of(np.array([0, 0, 2, 0, 2]), []).tolist() == [True, False, True, False, False]


def test_what_is_dropped_anyway_does_not_stand_for_its_cluster() -> None:
    clusters, size = np.array([0, 0, 0, 3]), np.array([1, 2, 3, 9])
    kept = best_of(clusters, [size], among=np.array([True, True, False, False]))
    assert kept.tolist() == [False, True, False, False]


def test_the_end_of_a_chain_that_is_unlike_the_best_is_kept_too() -> None:
    clusters, size = np.zeros(7, dtype=np.int64), np.array([1, 2, 9, 3, 4, 5, 6])

    def alike(pairs: np.ndarray) -> np.ndarray:
        return np.abs(pairs[:, 0] - pairs[:, 1]) <= 1

    assert np.flatnonzero(best_of(clusters, [size])).tolist() == [2]
    assert np.flatnonzero(best_of(clusters, [size], alike=alike)).tolist() == [0, 2, 4, 6]


def test_what_is_left_of_endless_unlikeness_is_kept() -> None:
    kept = best_of(np.zeros(500, dtype=np.int64), [], alike=lambda pairs: np.zeros(len(pairs), dtype=bool))
    assert kept.all()


def test_an_empty_corpus_has_no_clusters() -> None:
    assert connect(0, []).tolist() == []
    assert best_of(np.empty(0, np.int64), [np.empty(0)]).tolist() == []
