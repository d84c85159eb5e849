"""Paired differences: against scipy's and statsmodels' answers, the definition of the interval, and simulation."""

import math
import random

import numpy as np
import pytest

from codelm.eval.compare.paired import (
    Pair,
    bootstrap_interval,
    difference,
    holm,
    independent_difference,
    mcnemar,
    sign_flip,
    t_quantile,
    tango,
)


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    # statsmodels 0.15.0, mcnemar([[0, gained], [lost, 0]], exact=True).
    [(0, 0, 1.0), (1, 0, 1.0), (5, 1, 0.21875), (12, 3, 0.03515625), (30, 31, 1.0), (100, 60, 0.001953728034064355)],
)
def test_mcnemar_is_statsmodels(gained, lost, p):
    assert mcnemar(gained, lost) == pytest.approx(p, rel=1e-9)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


@pytest.mark.parametrize(
    ("degrees", "t"),
    # scipy.stats.t.ppf(0.975, degrees).
    [(1, 12.706204736), (2, 4.302652730), (3, 3.182446305), (4, 2.776445105), (5, 2.570581836), (10, 2.228138852),
     (30, 2.042272456), (99, 1.984216952), (163, 1.974624621)],
)  # fmt: skip
def test_students_t_is_scipys(degrees, t):
    assert t_quantile(0.975, degrees) == pytest.approx(t, rel=1e-8)


def test_signs_are_flipped_as_scipys_permutation_test_does():
    values = np.array([0.3, -0.1, 0.4, 0.25, 0.05, -0.02, 0.6])
    # scipy.stats.permutation_test((values,), sum, permutation_type="samples", n_resamples=inf).
    assert sign_flip(values) == pytest.approx(0.09375)
    assert sign_flip(np.zeros(3)) == 1.0


def test_flipping_the_signs_of_passes_is_mcnemars_test():
    signs = np.array([1.0] * 9 + [-1.0] * 2 + [0.0] * 50)
    assert sign_flip(signs) == pytest.approx(mcnemar(9, 2))
    many = np.array([1.0] * 90 + [-1.0] * 60)
    assert sign_flip(many) == pytest.approx(mcnemar(90, 60), abs=0.005)


def test_holm_is_statsmodels():
    # statsmodels.stats.multitest.multipletests(…, method="holm").
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(("gained", "lost", "n"), [(40, 20, 160), (1, 0, 44), (7, 0, 30), (0, 3, 12), (5, 5, 5 + 5)])
def test_tangos_interval_is_where_the_score_of_the_likeliest_table_is_1_96(gained, lost, n):
    """The constrained maximum is searched for, not computed."""

    def z(delta):
        def likelihood(q):
            cells = [(gained, q + delta), (lost, q), (n - gained - lost, 1 - 2 * q - delta)]
            return sum(count * math.log(max(share, 1e-300)) for count, share in cells if count)

        low, high = max(0.0, -delta), (1 - delta) / 2
        for _ in range(200):
            first, second = low + (high - low) / 3, high - (high - low) / 3
            low, high = (first, high) if likelihood(first) < likelihood(second) else (low, second)
        variance = (2 * low + delta - delta**2) / n
        return ((gained - lost) / n - delta) / math.sqrt(variance)

    low, high = tango(gained, lost, n)
    assert z(low) == pytest.approx(1.959964, abs=1e-3)
    assert z(high) == pytest.approx(-1.959964, abs=1e-3)


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), pp. 873-890, table II, method 10.
    [((56, 70, 48, 80), 0.0524, 0.3339), ((9, 10, 3, 10), 0.1705, 0.8090), ((10, 10, 0, 20), 0.6791, 1.0)],
)
def test_two_samples_differ_by_newcombes_published_intervals(counts, low, high):
    assert independent_difference(*counts) == pytest.approx((low, high), abs=6e-5)


def test_no_change_on_n_problems_leaves_doubt():
    square = 1.959963984540054**2
    assert tango(0, 0, 164) == pytest.approx((-square / (164 + square), square / (164 + square)))
    assert tango(4, 0, 4)[1] == 1.0
    assert tango(0, 4, 4)[0] == -1.0


def pairs(changes, **extra):
    return [Pair(0.0 if change > 0 else 1.0, 1.0 if change >= 0 else 0.0, **extra) for change in changes]


def test_independent_passes_are_counted():
    found = difference(pairs([1] * 12 + [-1] * 3 + [0] * 85))
    assert (found.rose, found.fell, found.n, found.clusters) == (12, 3, 100, 100)
    assert found.value == pytest.approx(0.09)
    assert (found.first, found.second) == (0.88, 0.97)
    assert found.p == pytest.approx(0.03515625)
    assert (found.low, found.high) == tango(12, 3, 100)
    assert (found.interval, found.test) == ("Tango's score interval", "McNemar's exact test")


def test_what_is_not_independent_counts_once():
    """Fifty masks of five functions say less than fifty functions."""
    changes = [1] * 30 + [0] * 20
    apart = difference(pairs(changes))
    together = difference([Pair(0.0, float(change), cluster=f"f{n // 10}") for n, change in enumerate(changes)])
    assert together.value == apart.value
    assert together.clusters == 5
    assert None not in (together.low, together.high, apart.low, apart.high)
    assert together.high - together.low > 2 * (apart.high - apart.low)  # pyright: ignore[reportOptionalOperand]
    assert together.p > 0.05 > apart.p


def test_weights_make_bits_per_byte_those_of_all_bytes():
    found = difference([Pair(1.0, 0.5, weight=300), Pair(2.0, 2.0, weight=100), Pair(1.0, 0.9, weight=100)])
    assert found.first == pytest.approx((300 + 200 + 100) / 500)
    assert found.value == pytest.approx(-160 / 500)
    assert (found.rose, found.fell) == (0, 2)


@pytest.mark.parametrize("cluster", ["", "file"])
def test_one_group_has_no_interval(cluster):
    found = difference([Pair(1.0, 0.4, cluster=cluster)] * (1 if not cluster else 5))
    assert (found.low, found.high, found.p) == (None, None, 1.0)


def test_no_change_of_a_share_is_no_certainty():
    found = difference([Pair(0.25, 0.25), *[Pair(0.5, 0.5)] * 19])
    assert found.low == pytest.approx(-0.161, abs=1e-3)
    assert found.high == pytest.approx(0.161, abs=1e-3)


def test_the_same_pairs_give_the_same_figures():
    draw = random.Random(0)
    data = [Pair(draw.random(), draw.random(), draw.random(), f"c{draw.randrange(30)}") for _ in range(100)]
    assert difference(data) == difference(data)


def test_intervals_cover_as_often_as_they_say_on_few_clusters():
    draw = np.random.default_rng(1)
    covered = 0
    for number in range(150):
        values = draw.normal(0.3, 1, 8)
        low, high = bootstrap_interval(values, np.ones(8), number)
        covered += low <= 0.3 <= high
    assert covered / 150 >= 0.91


def test_tango_covers_as_often_as_it_says():
    draw = random.Random(2)
    covered = 0
    for _ in range(400):
        kinds = draw.choices((1, -1, 0), (0.1, 0.04, 0.86), k=40)
        low, high = tango(kinds.count(1), kinds.count(-1), 40)
        covered += low <= 0.06 <= high
    assert 0.92 <= covered / 400 <= 0.99
