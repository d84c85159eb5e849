"""Batches of the stream that a run does not read, because the loss ran away on them."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Gaps:
    """Ranges of global batches of the stream, [first, end) each, in order and apart from each other."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[Iterable[int]]) -> "Gaps":
        """The gaps that some ranges make together, whatever their order and overlap."""
        merged: list[tuple[int, int]] = []
        for first, end in sorted((first, end) for first, end in ranges):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            elif first < end:
                merged.append((first, end))
        return cls(tuple(merged))

    def stream_batch(self, batch: int) -> int:
        """Where the n-th global batch (0, 1, 2, …) that is read lies in the stream."""
        for first, end in self.ranges:
            if batch >= first:
                batch += end - first
        return batch
