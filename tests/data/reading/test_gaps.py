"""Gaps: the batches that are read, in order, are those of the stream without the ones left out."""

from hypothesis import given
from hypothesis import strategies as st

from codelm.data.reading.gaps import Gaps

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda of: (of[0], of[0] + of[1])), max_size=6)


@given(RANGES)
def test_what_is_read_is_the_stream_without_the_gaps(ranges: list[tuple[int, int]]) -> None:
    gaps = Gaps.of(ranges)
    left_out = {batch for first, end in ranges for batch in range(first, end)}
    expected = [batch for batch in range(200) if batch not in left_out]
    assert [gaps.stream_batch(number) for number in range(len(expected))] == expected


@given(RANGES, RANGES)
def test_gaps_may_be_added_in_any_order(some: list[tuple[int, int]], more: list[tuple[int, int]]) -> None:
    assert Gaps.of([*Gaps.of(some).ranges, *more]) == Gaps.of([*more, *some])


def test_without_gaps_every_batch_is_read() -> None:
    assert [Gaps().stream_batch(number) for number in range(5)] == [0, 1, 2, 3, 4]
