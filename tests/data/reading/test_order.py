"""Positions lead to samples by computation: passes are whole, epochs are as configured, and size costs nothing."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.reading.mixture import build_schedule
from codelm.data.reading.order import Order, Passes, WindowedPasses, build_passes
from codelm.errors import DataError

SHARDS = {"c": (30, 10), "css": (20,), "python": (40, 40, 20)}
SHARES = {"c": 0.25, "css": 0.125, "python": 0.625}


def order(
    batch: int = 8, repeats: dict[str, int] | None = None, window: int | None = None, limit: int | None = None
) -> Order:
    passes: dict[str, Passes] = {name: build_passes(name, shards, 17, limit, window) for name, shards in SHARDS.items()}
    return Order(build_schedule(SHARES, batch, 17), passes, repeats)


def drawn(of: Order, stream: str, positions: range) -> list[int]:
    """The numbers of a stream's samples at these positions."""
    found = of.locate(np.array(positions))
    return found.samples[found.streams == of.schedule.streams.index(stream)].tolist()


@pytest.mark.parametrize("window", [None, 1, 2])
def test_every_pass_over_a_stream_is_whole_and_in_an_order_of_its_own(window: int | None) -> None:
    of = order(window=window)
    for stream, shards in SHARDS.items():
        numbers = drawn(of, stream, range(3000))
        size = sum(shards)
        passes = [numbers[start : start + size] for start in range(0, len(numbers) - size + 1, size)]
        assert len(passes) > 2
        assert all(sorted(one) == list(range(size)) for one in passes)
        assert len({tuple(one) for one in passes}) == len(passes)


@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("repeats", [None, {}])
def test_single_positions_and_many_lead_to_the_same_samples(window: int | None, repeats: dict | None) -> None:
    of = order(window=window, repeats=repeats)
    together = of.locate(np.arange(400))
    for position in range(0, 400, 7):
        alone = of.locate(np.array([position]))
        assert all(one[position] == other[0] for one, other in zip(together, alone, strict=True))


def test_the_seed_and_the_name_decide_a_streams_order() -> None:
    turns, indices = np.zeros(100, np.int64), np.arange(100)
    orders = set()
    for name, seed in [("a", 1), ("a", 2), ("b", 1)]:
        passes = build_passes(name, (60, 60), seed, window=1)
        start, size, _ = passes.block(turns, indices)
        assert {(int(s), int(n)) for s, n in zip(start, size, strict=True)} == {(0, 60), (60, 60)}
        found = Order(build_schedule({name: 1.0}, 4, 1), {name: passes}).locate(indices).samples
        orders.add(tuple(found.tolist()))
    assert len(orders) == 3


@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=12).filter(lambda shards: sum(shards) > 0),
    st.integers(1, 5),
    st.integers(1, 400),
    st.integers(0, 5),
)
@settings(deadline=None)
def test_a_pass_by_windows_keeps_to_the_shards_that_it_announces(
    shards: list[int], window: int, limit: int, turn: int
) -> None:
    passes = WindowedPasses(shards, window, limit, 9)
    of = Order(build_schedule({"a": 1.0}, 1, 0), {"a": passes})
    assert passes.size == min(limit, sum(shards))
    positions = np.arange(turn * passes.size, (turn + 1) * passes.size)
    numbers = of.locate(positions).samples
    assert len(set(numbers.tolist())) == passes.size
    shard_of = np.searchsorted(np.cumsum(shards), numbers, side="right")
    expected: list[int] | None = None
    for index, shard in enumerate(shard_of.tolist()):
        now, soon = passes.shards_around(turn, index)
        assert shard in now
        assert len(now) <= window
        if expected is not None and list(now) != expected[0]:
            assert list(now) == expected[1]
        expected = list(now), list(soon)


@pytest.mark.parametrize("window", [None, 1])
def test_a_limit_keeps_the_same_samples_in_every_pass(window: int | None) -> None:
    of = order(limit=15, window=window)
    for stream in SHARDS:
        numbers = drawn(of, stream, range(2000))
        assert len(set(numbers)) == 15
        assert set(numbers[:15]) == set(numbers[15:30])


def test_a_limit_by_windows_needs_no_further_shards() -> None:
    passes = build_passes("a", (100,) * 50, 3, limit=250, window=2)
    needed = {shard for turn in range(5) for index in range(250) for shard in passes.shards_around(turn, index)[0]}
    assert len(needed) == 3


# Epochs.


def test_refilled_an_epoch_is_as_long_as_all_streams_together() -> None:
    assert order().samples_per_epoch == 160


def test_the_first_stream_to_run_out_ends_the_epoch() -> None:
    of = order(repeats={})
    # 160 samples hold all 20 of css, all 40 of c and all 100 of python; their order may cost a batch or two.
    assert of.samples_per_epoch in (136, 144, 152, 160)
    for epoch in range(30):
        positions = range(epoch * of.samples_per_epoch, (epoch + 1) * of.samples_per_epoch)
        for stream in SHARDS:
            numbers = drawn(of, stream, positions)
            assert len(set(numbers)) == len(numbers)


def test_a_stream_that_may_repeat_ends_the_epoch_later() -> None:
    shares = {"c": 0.5, "css": 0.5}
    passes: dict[str, Passes] = {name: build_passes(name, SHARDS[name], 1) for name in shares}
    once = Order(build_schedule(shares, 4, 1), passes, {})
    twice = Order(build_schedule(shares, 4, 1), passes, {"css": 2})
    assert (once.samples_per_epoch, twice.samples_per_epoch) == (40, 80)
    assert (once.ending_stream(), Order(build_schedule(shares, 4, 1), passes).ending_stream()) == ("css", None)
    for epoch in range(5):
        numbers = drawn(twice, "css", range(epoch * 80, (epoch + 1) * 80))
        assert sorted(numbers) == sorted([*range(20), *range(20)])


def test_what_an_epoch_leaves_of_a_stream_comes_in_the_next() -> None:
    shares = {"css": 0.5, "python": 0.5}
    passes: dict[str, Passes] = {name: build_passes(name, SHARDS[name], 1) for name in shares}
    of = Order(build_schedule(shares, 4, 1), passes, {})
    assert of.samples_per_epoch == 40
    numbers = drawn(of, "python", range(5 * 40))
    assert sorted(numbers) == list(range(100))


@given(
    st.lists(st.integers(5, 60), min_size=1, max_size=5),
    st.lists(st.floats(0.1, 1), min_size=5, max_size=5),
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 3000),
)
@settings(deadline=None, max_examples=60)
def test_no_epoch_holds_a_sample_more_often_than_it_may(
    sizes: list[int], weights: list[float], batch: int, repeat: int, epoch: int
) -> None:
    names = [f"s{i}" for i in range(len(sizes))]
    total = sum(weights[: len(sizes)])
    shares = {name: weight / total for name, weight in zip(names, weights, strict=False)}
    passes: dict[str, Passes] = {name: build_passes(name, [size], 1) for name, size in zip(names, sizes, strict=True)}
    of = Order(build_schedule(shares, batch, 1), passes, dict.fromkeys(names, repeat))
    positions = np.arange(epoch * of.samples_per_epoch, (epoch + 1) * of.samples_per_epoch)
    found = of.locate(positions)
    for number in range(len(sizes)):
        _, counts = np.unique(found.samples[found.streams == number], return_counts=True)
        assert counts.max(initial=0) <= repeat


def test_an_epoch_of_less_than_a_batch_is_refused() -> None:
    with pytest.raises(DataError, match="python has too few samples for one batch"):
        order(batch=1000, repeats={})


# Size.


@pytest.mark.parametrize("window", [None, 8])
@pytest.mark.parametrize("repeats", [None, {}])
def test_a_thousand_million_samples_cost_no_more_than_a_thousand(window: int | None, repeats: dict | None) -> None:
    """By computation: building the order and finding a batch near its end take well under a second."""
    shards = (16_384,) * 61_036
    samples = sum(shards)
    assert samples > 10**9
    started = time.perf_counter()
    passes: dict[str, Passes] = {"python": build_passes("python", shards, 3, window=window)}
    of = Order(build_schedule({"python": 1.0}, 1024, 3), passes, repeats)
    last = (of.samples_per_epoch // 1024 - 1) * 1024
    found = of.locate(np.arange(last, last + 1024))
    assert time.perf_counter() - started < 1.0
    assert len(set(found.samples.tolist())) == 1024
    assert found.samples.max() < samples
