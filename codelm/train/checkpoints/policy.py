"""Which checkpoints stay: the newest few, the best, and every so many batches one for good."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from codelm.config.training.checkpoints import KEEP_ALL, SaveBestSection


class Kept(NamedTuple):
    """What the policy knows of a checkpoint."""

    batch: int
    metric: float | None
    """The metric of `save_best` at that batch; None where it was not measured."""


@dataclass(frozen=True)
class Policy:
    """A checkpoint stays as long as one of three reasons holds, or while it is the newest known to be good."""

    newest: int
    """`save_num_checkpoints_to_keep`; -1 keeps all."""
    every: int | None = None
    """`save_keep_every` in batches."""
    best: SaveBestSection | None = None

    def to_remove(self, found: Iterable[Kept], trusted: int | None = None) -> set[int]:
        """The batches of the checkpoints that no reason keeps.

        Args:
            found: all that there are.
            trusted: the batches after which the weights are known to be good: the newest up to there stays, since all
                newer ones may be ruined.
        """
        batches = sorted(found)
        if self.newest == KEEP_ALL:
            return set()
        stay = {kept.batch for kept in batches[-self.newest :]}
        if self.every is not None:
            stay |= {kept.batch for kept in batches if kept.batch % self.every == 0}
        if trusted is not None:
            stay |= {max((kept.batch for kept in batches if kept.batch <= trusted), default=-1)}
        best = self.best_of(batches)
        return {kept.batch for kept in batches} - stay - ({best.batch} if best else set())

    def best_of(self, found: Iterable[Kept]) -> Kept | None:
        """The best by the metric, the earlier of two equals; None where nothing was measured."""
        best = None
        for kept in sorted(found):
            if self.is_better(kept.metric, best.metric if best else None):
                best = kept
        return best

    def is_better(self, metric: float | None, than: float | None) -> bool:
        """Whether a value beats another; None and NaN beat nothing, and anything else beats them."""
        if self.best is None or metric is None or math.isnan(metric):
            return False
        if than is None or math.isnan(than):
            return True
        return metric < than if self.best.mode == "min" else metric > than
