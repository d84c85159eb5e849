"""Differences between two systems on the same problems, and how sure one can be of them.

Problems of one cluster (the masks of one function, the lines of one file) are not independent of each other: what is
resampled and whose signs are flipped are clusters.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codelm.eval.statistics import wilson

Array = NDArray[np.float64]

RESAMPLES = 10_000
_LEVEL = 0.95
_Z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
_AT_ONCE = 1 << 21
"""Random numbers drawn at a time."""
_ENUMERATED = 12
"""Up to so many clusters all signs are tried instead of random ones."""


@dataclass(frozen=True)
class Pair:
    """What two systems reached on one problem.

    Attributes:
        weight: its part in the mean, such as bytes for bits per byte.
        cluster: what it shares with the problems that are not independent of it.
    """

    first: float
    second: float
    weight: float = 1.0
    cluster: str = ""


@dataclass(frozen=True)
class Difference:
    """From a first system to a second one.

    Attributes:
        first, second: their means; `value` is the second less the first.
        low, high: a 95 % interval of the difference; None where one cluster alone cannot have one.
        p: how likely a difference so large is by chance, where both are alike.
        n, clusters: problems, and independent groups of them.
        rose, fell: clusters on which the second one's value is higher, and lower.
        interval, test: the methods behind them.
    """

    first: float
    second: float
    value: float
    low: float | None
    high: float | None
    p: float
    n: int
    clusters: int
    rose: int
    fell: int
    interval: str
    test: str

    def to_dict(self) -> dict[str, Any]:
        """For compare.json."""
        return asdict(self)


def difference(pairs: Sequence[Pair], seed: int = 0) -> Difference:
    """The difference of two systems' weighted means; the same for the same pairs.

    Independent problems that are passed or not: Tango's score interval and McNemar's exact test. Anything else: a
    bootstrap over clusters and a test by flipping their signs.
    """
    sums, weights, alone = _by_cluster(pairs)
    total = float(weights.sum())
    first = math.fsum(pair.first * pair.weight for pair in pairs) / total
    second = math.fsum(pair.second * pair.weight for pair in pairs) / total
    clusters, rose, fell = len(sums), int((sums > 0).sum()), int((sums < 0).sum())
    even = alone and len({pair.weight for pair in pairs}) == 1
    low: float | None
    high: float | None
    if even and all(value in (0.0, 1.0) for pair in pairs for value in (pair.first, pair.second)):
        low, high = tango(rose, fell, clusters)
        interval, test, p = "Tango's score interval", "McNemar's exact test", mcnemar(rose, fell)
    else:
        p, test = sign_flip(sums, seed), "exact sign test" if clusters <= _ENUMERATED else "random signs"
        test = f"{test} over {clusters} groups"
        if clusters < 2:
            low, high, interval = None, None, "none: one group of problems"
        elif not sums.any() and all(0 <= value <= 1 for pair in pairs for value in (pair.first, pair.second)):
            # A bootstrap of zeros knows no doubt; that no one of so many groups changed leaves some.
            low, high = tango(0, 0, clusters)
            interval = f"Tango's score interval over {clusters} groups, none of which changed"
        else:
            low, high = bootstrap_interval(sums, weights, seed)
            interval = f"bootstrap over {clusters} groups, {RESAMPLES} resamples"
    return Difference(first, second, second - first, low, high, p, len(pairs), clusters, rose, fell, interval, test)


def mcnemar(gained: int, lost: int) -> float:
    """The exact two-sided test on the problems that only one of two systems passes (McNemar, 1947)."""
    n, fewer = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)


def tango(gained: int, lost: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of the difference of two paired proportions (Tango, 1998).

    Unlike Wald's it has a width where no problem changed, and covers what it says on few problems.
    """

    def z(delta: float) -> float:
        b = -gained - lost + (2 * n - gained + lost) * delta
        c = -lost * delta * (1 - delta)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    estimate = (gained - lost) / n
    low = -1.0 if gained - lost == -n else _crossing(lambda delta: z(delta) > _Z, -1.0, estimate)
    high = 1.0 if gained - lost == n else _crossing(lambda delta: z(delta) > -_Z, estimate, 1.0)
    return low, high


def independent_difference(first: int, n: int, second: int, m: int) -> tuple[float, float]:
    """A 95 % interval of first/n - second/m of two independent samples: Newcombe's hybrid score (1998, method 10)."""
    one, other = first / n, second / m
    (low, high), (other_low, other_high) = wilson(first, n), wilson(second, m)
    value = one - other
    return value - math.hypot(one - low, other_high - other), value + math.hypot(high - one, other - other_low)


def bootstrap_interval(sums: Array, weights: Array, seed: int = 0) -> tuple[float, float]:
    """The 95 % interval of sum(sums)/sum(weights) over resampled clusters: expanded percentiles.

    Percentiles of a bootstrap are too narrow on few clusters; those taken here are further out by what Student's t is
    wider than the normal distribution (Hesterberg, What Teachers Should Know about the Bootstrap, 2015).
    """
    count = len(sums)
    random = np.random.Generator(np.random.PCG64(seed))
    means, step = [], max(1, _AT_ONCE // count)
    for start in range(0, RESAMPLES, step):
        drawn = random.integers(0, count, (min(step, RESAMPLES - start), count))
        means.append(sums[drawn].sum(1) / weights[drawn].sum(1))
    tail = NormalDist().cdf(-math.sqrt(count / (count - 1)) * t_quantile((1 + _LEVEL) / 2, count - 1))
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def sign_flip(sums: Array, seed: int = 0) -> float:
    """How often the clusters' differences with signs at random reach the sum that they have: a two-sided p-value."""
    sums = sums[sums != 0]
    reached = abs(float(sums.sum())) * (1 - 1e-9)
    if not len(sums):
        return 1.0
    if len(sums) <= _ENUMERATED:
        every = (np.arange(1 << len(sums))[:, None] >> np.arange(len(sums))) & 1
        return float(np.mean(np.abs((1.0 - 2.0 * every) @ sums) >= reached))
    random = np.random.Generator(np.random.PCG64(seed))
    hits, step = 0, max(1, _AT_ONCE // len(sums))
    for start in range(0, RESAMPLES, step):
        signs = 1.0 - 2.0 * random.integers(0, 2, (min(step, RESAMPLES - start), len(sums)))
        hits += int((np.abs(signs @ sums) >= reached).sum())
    return (1 + hits) / (1 + RESAMPLES)


def holm(values: Sequence[float]) -> list[float]:
    """The p-values of several comparisons, raised so that all together err as rarely as one would (Holm, 1979)."""
    order = sorted(range(len(values)), key=lambda place: values[place])
    raised, highest = [0.0] * len(values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[place]))
        raised[place] = highest
    return raised


def t_quantile(share: float, degrees: int) -> float:
    """Student's t, which is below it with this probability (above 0.5), by the finite series of its distribution."""
    return _crossing(lambda t: _t_cdf(t, degrees) < share, 0.0, 1e6)


def _t_cdf(t: float, degrees: int) -> float:
    # Abramowitz and Stegun, 26.7.3 and 26.7.4.
    angle = math.atan(t / math.sqrt(degrees))
    cosine, odd = math.cos(angle), degrees % 2
    term = total = (cosine if odd else 1.0) if degrees > 1 else 0.0
    for k in range(2 + odd, degrees - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    within = 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total
    return (1 + within) / 2


def _crossing(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at `low` ceases to, to the last digits."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def _by_cluster(pairs: Sequence[Pair]) -> tuple[Array, Array, bool]:
    """Weighted differences and weights of each cluster, and whether each has one problem; without a name, its own."""
    sums: defaultdict[object, list[float]] = defaultdict(list)
    weights: defaultdict[object, list[float]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        key = pair.cluster or number
        sums[key].append((pair.second - pair.first) * pair.weight)
        weights[key].append(pair.weight)
    alone = all(len(values) == 1 for values in sums.values())
    return (
        np.array([math.fsum(values) for values in sums.values()]),
        np.array([math.fsum(values) for values in weights.values()]),
        alone,
    )
