"""What changed from the first system to each other one, on each benchmark and metric."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from codelm.eval.compare.comparable import shared_benchmarks
from codelm.eval.compare.folders import Evaluated, System, begins
from codelm.eval.compare.measures import kind_of, lower_is_better
from codelm.eval.compare.paired import Difference, Pair, difference, holm

Verdict = Literal["better", "worse", "unchanged", "too few"]
"""too few: so few independent groups of problems that no difference on them could be told from chance."""

OWN = ("repository", "held_out")
"""How the names (or kinds) of benchmarks begin that are the user's own code, unless it is said otherwise."""
REPLAY = "replay"
"""So begin the names of held-out files that are not, unless named themselves: what the first system knew."""
_SURE = 0.05
_FEWEST = 6
"""With five groups, even a change on all of them has a p-value above 0.05."""


@dataclass(frozen=True)
class Change:
    """One metric of one benchmark, from the first system to another.

    Attributes:
        own: it is measured on the user's own code.
        p: of all comparisons with the first system on this metric together (Holm); `difference.p` is this one's alone.
        left_out: problems that only some of the systems have a value for.
        kind: of gap, where these problems are only those; empty for all.
    """

    benchmark: str
    title: str
    metric: str
    system: str
    own: bool
    difference: Difference
    p: float
    left_out: int = 0
    kind: str = ""

    @property
    def lower_is_better(self) -> bool:
        return lower_is_better(self.metric)

    @property
    def is_share(self) -> bool:
        """Whether it is a share, which is shown in percent."""
        return not self.lower_is_better and all(
            0 <= value <= 1 for value in (self.difference.first, self.difference.second)
        )

    @property
    def verdict(self) -> Verdict:
        """Sure only where the test says so and the interval leaves no zero."""
        found = self.difference
        if found.clusters < _FEWEST:
            return "too few"
        low, high = found.low, found.high
        if low is None or high is None or self.p >= _SURE or low <= 0 <= high:
            return "unchanged"
        return "better" if (found.value < 0) == self.lower_is_better else "worse"

    def to_dict(self) -> dict[str, Any]:
        """For compare.json."""
        return {**asdict(self), "verdict": self.verdict, "lower_is_better": self.lower_is_better}


def find_slices(systems: Sequence[System], own: Collection[str] = OWN) -> list[Change]:
    """The same as `find_changes` for each kind of gap, of the benchmarks that have several."""
    found = []
    for name in shared_benchmarks([*systems]):
        kinds = sorted({kind for task_id in systems[0].benchmarks[name].clusters if (kind := kind_of(task_id))})
        for kind in kinds if len(kinds) > 1 else ():
            cut = [System(system.name, {name: system.benchmarks[name].of_kind(kind)}) for system in systems]
            found += [replace(change, kind=kind) for change in find_changes(cut, own)]
    return found


def find_changes(systems: Sequence[System], own: Collection[str] = OWN) -> list[Change]:
    """All metrics of the shared benchmarks, each of the other systems against the first.

    Args:
        own: how the names of benchmarks begin that are the user's own code.
    """
    found = []
    for name in shared_benchmarks([*systems]):
        evaluated = [system.benchmarks[name] for system in systems]
        is_own = _is_own(evaluated[0], own)
        for metric in sorted(evaluated[0].measures, key=lambda metric: not metric.startswith("pass@")):
            if all(metric in one.measures for one in evaluated):
                changes = [
                    _change(name, metric, system.name, is_own, evaluated[0], system.benchmarks[name])
                    for system in systems[1:]
                ]
                raised = holm([change.p for change in changes])
                found += [replace(change, p=p) for change, p in zip(changes, raised, strict=True)]
    return sorted(
        found,
        key=lambda change: not any(other.metric == "pass@1" for other in found if other.benchmark == change.benchmark),
    )


def _is_own(benchmark: Evaluated, own: Collection[str]) -> bool:
    if benchmark.name.startswith(REPLAY):
        return any(benchmark.name.startswith(begin) for begin in own)
    return any(begins(benchmark.settings, begin) for begin in own)


def _change(name: str, metric: str, system: str, own: bool, first: Evaluated, second: Evaluated) -> Change:
    old, new = first.measures[metric], second.measures[metric]
    shared = [task_id for task_id in old if task_id in new]
    pairs = [
        Pair(old[task_id].value, new[task_id].value, old[task_id].weight, first.clusters[task_id]) for task_id in shared
    ]
    found = difference(pairs)
    return Change(name, first.title, metric, system, own, found, found.p, len(old.keys() ^ new.keys()))
