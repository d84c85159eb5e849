"""The schedule is exact, even and computed; the permutation is one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.data.mixture import build_schedule, implied_epochs, resolve_shares
from codelm.data.permutation import permute
from codelm.errors import DataError
from codelm.languages import LANGUAGES

SAMPLES = {"python": 700, "c": 200, "css": 100}


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert sorted(permute(i, size, key) for i in range(size)) == list(range(size))


def test_permute_shuffles_and_depends_on_the_key() -> None:
    one, two = ([permute(i, 1000, key) for i in range(1000)] for key in (1, 2))
    assert one != two
    assert abs(np.corrcoef(one, range(1000))[0, 1]) < 0.15


def test_permute_works_at_sizes_that_no_table_holds() -> None:
    size = 10**12
    images = {permute(i, size, 7) for i in range(1000)}
    assert len(images) == 1000
    assert max(images) > size // 2


@pytest.mark.parametrize("batch", [1, 8, 256])
def test_any_thousand_batches_hold_each_share_within_one_sample(batch: int) -> None:
    shares = resolve_shares("replit-order", dict.fromkeys(LANGUAGES, 10), "here")
    if batch == 1:
        shares = {"python": 0.7, "c": 0.3}
    schedule = build_schedule(shares, batch, seed=3)
    numbers = {language: i for i, language in enumerate(schedule.languages)}
    twice = np.concatenate([schedule.order, schedule.order])
    for start in (0, 1, 17 * batch, 999 * batch):
        counts = np.bincount(twice[start : start + 1000 * batch], minlength=len(numbers))
        for language, share in shares.items():
            assert abs(counts[numbers[language]] - share * 1000 * batch) <= 1


def test_languages_are_spread_evenly_within_the_period() -> None:
    schedule = build_schedule({"python": 0.9, "c": 0.1}, 8, seed=0)
    c = np.flatnonzero(schedule.order == 0)
    assert np.diff(c).max() <= 11


def test_draws_count_each_language_without_gap_or_repeat_across_periods() -> None:
    schedule = build_schedule({"python": 0.6, "c": 0.4}, 1, seed=5)
    seen: dict[str, list[int]] = {"python": [], "c": []}
    for position in range(2500):
        language, drawn = schedule.draw(position)
        seen[language].append(drawn)
    assert seen == {language: list(range(len(drawn))) for language, drawn in seen.items()}


def test_corpus_takes_languages_as_they_occur() -> None:
    assert resolve_shares("corpus", SAMPLES, "here") == {"python": 0.7, "c": 0.2, "css": 0.1}


def test_explicit_shares_are_normalised_and_zero_leaves_a_language_out() -> None:
    assert resolve_shares({"python": 3, "c": 1, "css": 0}, SAMPLES, "here") == {"python": 0.75, "c": 0.25}


def test_a_preset_leaves_out_what_is_absent() -> None:
    shares = resolve_shares("natural", SAMPLES, "here")
    assert set(shares) == set(SAMPLES)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["python"] / shares["c"] == pytest.approx(18.62 / 21.16)


def test_naming_an_absent_language_is_refused_with_what_there_is() -> None:
    with pytest.raises(DataError, match=r"names rust, of which here has no sample; it has c, css, python"):
        resolve_shares({"python": 1, "rust": 1}, SAMPLES, "here")


def test_a_share_below_one_sample_in_a_thousand_batches_is_refused() -> None:
    with pytest.raises(DataError, match="gives c 1e-07 of the samples"):
        build_schedule({"python": 1 - 1e-7, "c": 1e-7}, 8, seed=0)


def test_implied_epochs() -> None:
    schedule = build_schedule({"python": 0.5, "c": 0.5}, 1, seed=0)
    assert implied_epochs(schedule, {"python": 100, "c": 50}, 1000) == {"python": 5.0, "c": 10.0}
