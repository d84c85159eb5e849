"""The order of the samples: from a global position to a stream and one of its samples, by computation alone.

A stream is passed over again and again, each time in another order. A pass is a permutation of all its samples, or
goes window by window: the shards in a seeded order, so many of them at a time, and the samples of these permuted. The
first mixes best; the second needs only two windows of shards at hand, which suits shards that must be fetched.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from codelm.data.permutation import mix_key, mix_keys, permute_all
from codelm.data.reading.mixture import Schedule
from codelm.errors import DataError


class Passes(Protocol):
    """How a stream is passed over: sample `index` of pass `turn` is drawn from a block of the pass."""

    size: int
    """Samples in a pass."""
    window: int
    """Shards that a block of it may lie in."""

    def block(self, turn: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First index, length and key of the block that is permuted around each index; all of shape (n,)."""
        ...

    def sample(self, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
        """The sample's number within the stream's shards at each place of a pass that permutation has led to."""
        ...

    def shards_around(self, turn: int, index: int) -> tuple[Sequence[int], Sequence[int]]:
        """The numbers of the shards in the window of an index, and in the window after it."""
        ...


class WholePasses:
    """A pass is one permutation of all samples, or of `limit` samples that the key chooses."""

    def __init__(self, shards: Sequence[int], limit: int | None, key: int) -> None:
        self.window = len(shards)
        self.samples = samples = sum(shards)
        self.size = samples if limit is None else min(limit, samples)
        self.key = key

    def block(self, turn: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        zeros = np.zeros_like(index)
        return zeros, zeros + self.size, mix_keys(self.key, turn)

    def sample(self, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
        return place if self.size == self.samples else permute_all(place, self.samples, self.key)

    def shards_around(self, turn: int, index: int) -> tuple[Sequence[int], Sequence[int]]:
        return range(self.window), ()


class WindowedPasses:
    """A pass takes the shards in an order of its own, `window` at a time, and permutes the samples of these.

    `limit` keeps the first so many samples of a fixed order of the shards, so that no other shard is ever needed.
    """

    def __init__(self, shards: Sequence[int], window: int, limit: int | None, key: int) -> None:
        counts = np.array(shards, np.int64)
        self.first = counts.cumsum() - counts
        fixed = permute_all(np.arange(len(counts)), len(counts), key)
        room = np.clip((counts.sum() if limit is None else limit) - (counts[fixed].cumsum() - counts[fixed]), 0, None)
        kept = np.minimum(counts[fixed], room)
        self.shards, self.counts = fixed[kept > 0], kept[kept > 0]
        self.size = int(self.counts.sum())
        self.window = window
        self.key = key
        self._layouts: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def block(self, turn: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        start, end, number = np.empty_like(index), np.empty_like(index), np.empty_like(index)
        for one in np.unique(turn):
            mine = turn == one
            bounds = self._layout(int(one))[1]
            number[mine] = (np.searchsorted(bounds, index[mine], side="right") - 1) // self.window
            start[mine] = bounds[number[mine] * self.window]
            end[mine] = bounds[np.minimum((number[mine] + 1) * self.window, len(self.shards))]
        return start, end - start, mix_keys(mix_keys(self.key, turn), number)

    def sample(self, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
        found = np.empty_like(place)
        for one in np.unique(turn):
            mine = turn == one
            order, bounds = self._layout(int(one))
            slot = np.searchsorted(bounds, place[mine], side="right") - 1
            found[mine] = self.first[order[slot]] + place[mine] - bounds[slot]
        return found

    def shards_around(self, turn: int, index: int) -> tuple[Sequence[int], Sequence[int]]:
        order, bounds = self._layout(turn)
        number = (int(np.searchsorted(bounds, index, side="right")) - 1) // self.window
        now = order[number * self.window : (number + 1) * self.window]
        after = order[(number + 1) * self.window : (number + 2) * self.window]
        if not len(after):
            after = self._layout(turn + 1)[0][: self.window]
        return now.tolist(), after.tolist()

    def _layout(self, turn: int) -> tuple[np.ndarray, np.ndarray]:
        """The shards in the order of a pass, shape (shards,), and the bounds of their samples in it, (shards + 1,)."""
        if turn not in self._layouts:
            while len(self._layouts) > 3:
                del self._layouts[next(iter(self._layouts))]
            count = len(self.shards)
            order = permute_all(np.arange(count), count, mix_key(self.key, turn))
            self._layouts[turn] = self.shards[order], np.append(0, self.counts[order].cumsum())
        return self._layouts[turn]


def build_passes(
    name: str, shards: Sequence[int], seed: int, limit: int | None = None, window: int | None = None
) -> WholePasses | WindowedPasses:
    """The passes over a stream whose shards hold so many samples; its name and the seed decide their order.

    Args:
        limit: of how many samples; None means all.
        window: of how many shards the samples are permuted together; None means all.
    """
    key = mix_key(seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))
    if window is None or window >= len(shards):
        return WholePasses(shards, limit, key)
    return WindowedPasses(shards, window, limit, key)


class Located(NamedTuple):
    """Where the samples at some positions are, each array of shape (n,): a stream's number, the pass over it, the place
    in that pass, and the number of the sample within the stream's shards."""

    streams: np.ndarray
    turns: np.ndarray
    indices: np.ndarray
    samples: np.ndarray


class Order:
    """Global position → stream and sample.

    Refilled streams are passed over without regard to epochs. When the first stream to run out ends the epoch, none
    holds a sample more often than its `repeat` in an epoch, and a stream of which an epoch takes only a part continues
    with other samples in the next.
    """

    def __init__(
        self, schedule: Schedule, passes: Mapping[str, Passes], repeats: Mapping[str, int] | None = None
    ) -> None:
        """`repeats`: after how many passes a stream ends the epoch; None refills without end.

        Raises:
            DataError: a stream runs out in the first batch.
        """
        self.schedule = schedule
        self.passes = [passes[stream] for stream in schedule.streams]
        self.sizes = np.array([of.size for of in self.passes], np.int64)
        self.batches_per_epoch = max(int(self.sizes.sum()) // schedule.batch_size, 1)
        self._most: np.ndarray | None = None
        if repeats is not None:
            self.supply = self.sizes * np.array([repeats.get(stream, 1) for stream in schedule.streams], np.int64)
            self.batches_per_epoch = self._longest_epoch()
            self._most = schedule.most_in(self.batches_per_epoch)

    @property
    def samples_per_epoch(self) -> int:
        return self.batches_per_epoch * self.schedule.batch_size

    def locate(self, positions: np.ndarray) -> Located:
        """Where the samples at global positions are (0, 1, 2, … over all epochs), shape (n,), int64."""
        streams, drawn = self.schedule.draw_all(positions)
        turns, indices = np.divmod(self._count_on(positions, streams, drawn), self.sizes[streams])
        start, size, key = np.empty_like(indices), np.empty_like(indices), np.empty(len(indices), np.uint64)
        groups = [(self.passes[number], np.flatnonzero(streams == number)) for number in np.unique(streams).tolist()]
        for passes, mine in groups:
            start[mine], size[mine], key[mine] = passes.block(turns[mine], indices[mine])
        places = start + permute_all(indices - start, size, key)
        samples = np.empty_like(places)
        for passes, mine in groups:
            samples[mine] = passes.sample(turns[mine], places[mine])
        return Located(streams, turns, indices, samples)

    def _count_on(self, positions: np.ndarray, streams: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """The number of each sample within the endless sequence of passes over its stream."""
        if self._most is None:
            return drawn
        epochs = positions // self.samples_per_epoch
        at_start = np.empty_like(drawn)
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            at_start[mine] = self.schedule.drawn_before(int(epoch) * self.batches_per_epoch)[streams[mine]]
        size, most = self.sizes[streams], np.maximum(self._most, 1)[streams]
        # Where an epoch takes no whole pass, a pass serves several epochs with parts that do not meet.
        per_pass = np.maximum(size // most, 1)
        part = epochs // per_pass * size + epochs % per_pass * most
        whole = epochs * (-(-most // size) * size)
        return np.where(most <= size, part, whole) + drawn - at_start

    def _longest_epoch(self) -> int:
        """The most batches of which any run in a row takes no more than the supply of each stream."""
        supply = self.supply
        low, high = 0, int(supply.sum()) // self.schedule.batch_size + 1
        while high - low > 1:
            middle = (low + high) // 2
            if (self.schedule.most_in(middle) <= supply).all():
                low = middle
            else:
                high = middle
        if low == 0:
            short = self.schedule.streams[int(np.argmax(self.schedule.most_in(1) - supply))]
            raise DataError(
                f"{short} has too few samples for one batch, so the epoch would end before it begins; lower its share,"
                " or set train_data.on_exhausted=refill"
            )
        return low

    def ending_stream(self) -> str | None:
        """The stream that ends the epoch, the first to run out; None when streams are refilled."""
        if self._most is None:
            return None
        return self.schedule.streams[int(np.argmax(self.schedule.most_in(self.batches_per_epoch + 1) / self.supply))]
