"""What a mask must pass to be in the benchmark; the numbers are recorded in the manifest.

In this order, and the first failure ends it: the reference passes; every stub fails; enough mutants fail; the reference
passes every further time, within the limit. Whether training can be kept from it is seen at the end (`exclusion`).
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from codelm.eval.repository.masks import Mask
from codelm.eval.repository.mutants import mutants, stubs
from codelm.eval.repository.outcome import Outcome, judging_run, limits, outcome
from codelm.eval.repository.worker import Ran, Run

REASONS = (
    "kept",
    "reference fails",
    "too slow",
    "a stub passes",
    "no mutants",
    "mutants survive",
    "reference is flaky",
)


@dataclass(frozen=True)
class GateSettings:
    """How strict the gates are."""

    references: int = 3
    mutants: int = 6
    killed: float = 0.5
    """The share of mutants that must fail."""
    max_seconds: float = 10.0
    """CPU time of one run, and a fifth of its wall time."""


@dataclass(frozen=True)
class Gated:
    """What the gates found.

    Attributes:
        reason: one of `REASONS`.
        detail: the test, stub or mutants behind it.
        references: runs of the reference that passed.
        stubs: those that failed, as they must.
        killed, tried: mutants that failed, of those that ran until the matter was settled; `made` are there.
        cpu_seconds: the most that a run of the reference took.
        runs: of pytest.
    """

    reason: str
    detail: str = ""
    references: int = 0
    stubs: tuple[str, ...] = ()
    killed: int = 0
    tried: int = 0
    made: int = 0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    runs: int = 0

    @property
    def kept(self) -> bool:
        """Whether the mask is in the benchmark."""
        return self.reason == "kept"

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return {**asdict(self), "stubs": list(self.stubs)}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> "Gated":
        """The inverse of `to_dict`."""
        return Gated(**{**fields, "stubs": tuple(fields["stubs"])})


def cpu_limit(reference_seconds: float, max_seconds: float) -> float:
    """The CPU time of a judged run, by what the reference took: generous, since a processor may be busy or slow."""
    return float(min(math.ceil(max_seconds), max(2, math.ceil(5 * reference_seconds + 1))))


def gate(start: Callable[[Run], Ran], mask: Mask, settings: GateSettings, seed: int) -> Gated:
    """Put a mask through the gates, on one worker."""
    found: dict[str, Any] = {"references": 0, "cpu_seconds": 0.0, "seconds": 0.0, "runs": 0}
    cpu = math.ceil(settings.max_seconds)

    def judge(text: str) -> Outcome:
        found["runs"] += 1
        whole = mask.function.source.replaced(mask.first, mask.last, text)
        run = judging_run(mask.function.source.path, whole, mask.tests, limits(cpu, 5 * settings.max_seconds))
        return outcome(start(run), run)

    def judge_reference() -> Outcome:
        verdict = judge(mask.text)
        found["references"] += verdict.passed
        found["cpu_seconds"] = max(found["cpu_seconds"], verdict.cpu_seconds)
        found["seconds"] = max(found["seconds"], verdict.seconds)
        return verdict

    first = judge_reference()
    if not first.passed:
        slow = first.kind in ("cpu", "wall")
        return Gated("too slow" if slow else "reference fails", first.detail or first.kind, **found)
    cpu = cpu_limit(first.cpu_seconds, settings.max_seconds)
    failed: list[str] = []
    for name, text in stubs(mask):
        if judge(text).passed:
            return Gated("a stub passes", name, stubs=tuple(failed), **found)
        failed.append(name)
    made = mutants(mask, settings.mutants, seed)
    needed = max(1, math.ceil(settings.killed * len(made)))
    killed, survived = 0, []
    for name, text in made:
        if judge(text).passed:
            survived.append(name)
        else:
            killed += 1
        if killed == needed or len(survived) > len(made) - needed:
            break
    found.update(stubs=tuple(failed), killed=killed, tried=killed + len(survived), made=len(made))
    if not made:
        return Gated("no mutants", **found)
    if killed < needed:
        return Gated("mutants survive", "; ".join(survived), **found)
    for _ in range(settings.references - 1):
        again = judge_reference()
        if not again.passed:
            return Gated("reference is flaky", again.detail or again.kind, **found)
    return Gated("kept", **found)
