"""Clusters from pairs of near duplicates, and the documents of each that are kept."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

_ROUNDS = 100


def connect(number: int, edges: Iterable[np.ndarray]) -> np.ndarray:
    """The cluster of each of `number` documents, int64 (number,): the smallest number that edges lead to from it.

    Union-find on whole arrays; `edges` are arrays of pairs, int64 (pairs, 2). Needs 16 bytes a document and some 40 a
    pair of the largest array.
    """
    parent = np.arange(number, dtype=np.int64)
    for pairs in edges:
        left, right = pairs[:, 0], pairs[:, 1]
        while len(left):
            left, right = _roots(parent, left), _roots(parent, right)
            apart = left != right
            left, right = np.minimum(left[apart], right[apart]), np.maximum(left[apart], right[apart])
            np.minimum.at(parent, right, left)
            _roots(parent, right)
    _roots(parent, slice(None))
    return parent


def _roots(parent: np.ndarray, nodes: np.ndarray | slice) -> np.ndarray:
    """The roots above nodes, which become their parents. A path through `nodes` alone is halved in every turn."""
    above = parent[nodes]
    while not np.array_equal(higher := parent[above], above):
        parent[nodes] = above = higher
    return above


def best_of(
    clusters: np.ndarray,
    ranks: Sequence[np.ndarray],
    among: np.ndarray | None = None,
    alike: Callable[[np.ndarray], np.ndarray] | None = None,
) -> np.ndarray:
    """Marks the documents of each cluster that are kept, bool (n,): the best, and with `alike` what is unlike it.

    The best is the greatest by `ranks`, arrays (n,) with the most important first, then the first in order. The
    pipeline's ranks are: a known permissive licence before another known one before none; the latest change, where it
    is known; the longest text. With `among`, bool (n,), only the documents marked there are judged, and a cluster with
    none of them keeps none: what other rules drop must not stand for its cluster.

    A cluster is a chain: its ends may have little in common. `alike` tells of pairs (kept, other), int64 (pairs, 2),
    whether they are near duplicates, bool (pairs,); of the others that are unlike the best, the best is kept too, and
    so on. After 100 rounds the rest of a cluster is kept.
    """
    kept = np.zeros(len(clusters), dtype=bool)
    pending = np.arange(len(clusters)) if among is None else np.flatnonzero(among)
    order = np.lexsort([-pending, *(rank[pending] for rank in reversed(ranks)), -clusters[pending]])
    pending = pending[order[::-1]]  # by cluster, the best first
    for _ in range(_ROUNDS):
        if not len(pending):
            return kept
        first = np.append(True, clusters[pending][1:] != clusters[pending][:-1])
        kept[pending[first]] = True
        if alike is None:
            return kept
        best, others = pending[first][np.cumsum(first) - 1][~first], pending[~first]
        pending = others[~alike(np.stack([best, others], axis=1))]
    kept[pending] = True
    return kept
