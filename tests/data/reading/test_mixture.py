"""The schedule is exact, even and computed; the permutation is one."""

import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.permutation import mix_key, mix_keys, permute, permute_all
from codelm.data.reading.mixture import (
    Schedule,
    build_schedule,
    implied_epochs,
    resolve_shares,
    with_replay,
    without_rare,
)
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


@given(st.data())
def test_arrays_are_permuted_as_single_numbers_are(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.one_of(st.integers(1, 70), st.integers(1, 2**40)), min_size=1, max_size=20))
    indices = [data.draw(st.integers(0, size - 1)) for size in sizes]
    key = data.draw(st.integers(0, 2**64 - 1))
    keys = [mix_key(key, part) for part in range(len(sizes))]
    assert mix_keys(key, np.arange(len(sizes))).tolist() == keys
    images = permute_all(np.array(indices), np.array(sizes), np.array(keys, np.uint64))
    assert images.tolist() == [permute(*one) for one in zip(indices, sizes, keys, strict=True)]


def test_an_index_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="7"):
        permute_all(np.array([3, 7]), 7, 1)


def drawn(schedule: Schedule, first: int, samples: int) -> np.ndarray:
    """How many of the samples from a position on are of each stream, shape (streams,)."""
    streams, _ = schedule.draw_all(np.arange(first, first + samples))
    return np.bincount(streams, minlength=len(schedule.streams))


@pytest.mark.parametrize("batch", [1, 8, 256])
def test_any_thousand_batches_hold_each_share_within_one_sample(batch: int) -> None:
    shares = resolve_shares("replit-order", dict.fromkeys(LANGUAGES, 10), "here")
    schedule = build_schedule(shares, batch, seed=3)
    exact = 1000 * batch * np.array(schedule.shares)
    for start in (0, 1, 17 * batch, 999 * batch, 1000 * batch - 1, 123_456 * batch + 5):
        assert (abs(drawn(schedule, start, 1000 * batch) - exact) < 1).all()


@st.composite
def mixtures(draw: st.DrawFn) -> tuple[dict[str, float], int, int]:
    """Shares, a global batch size and a seed."""
    weights = draw(st.lists(st.floats(0.01, 100), min_size=1, max_size=20))
    total = sum(weights)
    return {f"s{i}": w / total for i, w in enumerate(weights)}, draw(st.integers(10, 40)), draw(st.integers(0, 10**9))


@given(mixtures(), st.integers(0, 5000), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_every_window_and_every_batch_of_any_mixture_is_within_one_sample(
    mixture: tuple[dict[str, float], int, int], first_batch: int, offset: int
) -> None:
    shares, batch, seed = mixture
    try:
        schedule = build_schedule(shares, batch, seed)
    except DataError:
        return
    exact = np.array(schedule.shares)
    for position in (first_batch * batch, first_batch * batch + offset % batch):
        assert (abs(drawn(schedule, position, 1000 * batch) - 1000 * batch * exact) < 1).all()
    assert (abs(drawn(schedule, first_batch * batch, batch) - batch * exact) < 1).all()
    assert sum(schedule.quotas) == schedule.period


@given(mixtures(), st.integers(0, 3000), st.integers(1, 2500))
@settings(max_examples=60, deadline=None)
def test_most_in_is_reached_and_never_exceeded(
    mixture: tuple[dict[str, float], int, int], first: int, batches: int
) -> None:
    try:
        schedule = build_schedule(*mixture)
    except DataError:
        return
    here = schedule.drawn_before(first + batches) - schedule.drawn_before(first)
    every = [schedule.drawn_before(start + batches) - schedule.drawn_before(start) for start in range(1000)]
    assert (here <= schedule.most_in(batches)).all()
    assert schedule.most_in(batches).tolist() == np.max(every, axis=0).tolist()


def test_a_rare_stream_comes_at_even_distances() -> None:
    schedule = build_schedule({"python": 0.99, "c": 0.01}, 2, seed=0)
    streams, _ = schedule.draw_all(np.arange(4000))
    distances = np.diff(np.flatnonzero(streams == 0) // 2)
    assert distances.min() >= 20
    assert distances.max() <= 90


def test_a_batch_of_a_hundred_thousand_takes_no_more_memory_than_one_of_eight() -> None:
    shares = resolve_shares("natural", dict.fromkeys(LANGUAGES, 10), "here")
    started = time.process_time()
    large = build_schedule(shares, 10**6, seed=1)
    assert len(pickle.dumps(large)) < 250_000
    large.draw_all(np.arange(10**12, 10**12 + 100))
    assert time.process_time() - started < 0.5


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


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [(1.0, {"python": 0.7, "c": 0.2, "css": 0.1}), (1e9, dict.fromkeys(SAMPLES, 1 / 3)), (2.0, None)],
)
def test_temperature_flattens_the_shares(temperature: float, expected: dict[str, float] | None) -> None:
    roots = {"python": 0.7**0.5, "c": 0.2**0.5, "css": 0.1**0.5}
    expected = expected or {stream: root / sum(roots.values()) for stream, root in roots.items()}
    assert resolve_shares("corpus", SAMPLES, "here", temperature) == pytest.approx(expected)
    assert resolve_shares({"python": 7, "c": 2, "css": 1}, SAMPLES, "x", temperature) == pytest.approx(expected)


def test_a_very_cold_mixture_is_its_largest_share() -> None:
    assert resolve_shares("corpus", SAMPLES, "here", 1e-4)["python"] == 1.0


def test_upsampling_multiplies_a_share_after_the_temperature() -> None:
    shares = resolve_shares("corpus", SAMPLES, "here", 1e9, {"css": 2.0})
    assert shares == pytest.approx({"python": 0.25, "c": 0.25, "css": 0.5})


def test_settings_for_a_stream_that_is_not_mixed_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"train_data\.streams names css, which the mixture of here does not hold; .* c"
    ):
        resolve_shares({"c": 1}, SAMPLES, "here", upsample={"css": 2.0})


def test_replay_gets_its_share_of_all_samples() -> None:
    both = with_replay({"python": 0.5, "c": 0.5}, {"python": 0.25, "rust": 0.75}, 0.1)
    assert both == pytest.approx({"python": 0.45, "c": 0.45, "replay/python": 0.025, "replay/rust": 0.075})
    schedule = build_schedule(both, 8, seed=1)
    counts = dict(zip(schedule.streams, schedule.quotas, strict=True))
    assert counts["replay/python"] + counts["replay/rust"] == 800


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


def test_a_language_too_rare_for_a_preset_is_left_out_and_one_that_is_named_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shares = resolve_shares("corpus", {"python": 100_000, "c": 50_000, "css": 3}, "here")
    kept = without_rare(shares, 8, named=set())
    assert kept == pytest.approx({"python": 2 / 3, "c": 1 / 3})
    assert "none is read: css" in caplog.text
    build_schedule(kept, 8, seed=0)
    with pytest.raises(DataError, match=r"train_data\.mixture gives css 2e-05"):
        build_schedule(without_rare(shares, 8, named={"css"}), 8, seed=0)
    with pytest.raises(DataError, match=r"train_data\.replay\.mixture gives css 2e-06"):
        build_schedule(with_replay({"python": 1.0}, shares, 0.1), 8, seed=0)


def test_a_preset_with_nothing_in_common_names_what_there_is() -> None:
    with pytest.raises(DataError, match=r"train_data\.mixture natural has no share for .*, which holds instructions;"):
        resolve_shares("natural", {"instructions": 40, "css": 0}, "here")
    with pytest.raises(DataError, match="here has no samples to train on"):
        resolve_shares("natural", {"css": 0}, "here")


def test_implied_epochs() -> None:
    schedule = build_schedule({"python": 0.5, "c": 0.5}, 1, seed=0)
    assert implied_epochs(schedule, {"python": 100, "c": 50}, 1000) == {"python": 5.0, "c": 10.0}
