"""The third stage: from verdicts to scores."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codelm.errors import EvaluationError
from codelm.eval.records import Judged
from codelm.eval.sandbox.confine import Isolation
from codelm.eval.statistics import Score, score_mean, score_pass_at_k

KS = (1, 10, 100)
GOLD = "gold_bpb"
"""Bits per byte of the reference solutions."""


@dataclass(frozen=True)
class Result:
    """What came out: scores first, and all that they rest on.

    Attributes:
        name, title: of the benchmark.
        profile: name and version of the post-processing profile.
        scores: by name: pass@k for each k up to the number of samples, and `gold_bpb` where it was measured.
        judged: every verdict.
        profiles: the scores under every profile that this folder has been scored with, this one included.
    """

    name: str
    title: str
    profile: str
    scores: dict[str, Score]
    judged: list[Judged]
    isolation: Isolation
    prompts_shortened: int = 0
    profiles: dict[str, dict[str, float]] | None = None

    @property
    def pass_at_1(self) -> Score:
        """The score that is always there."""
        return self.scores["pass@1"]

    @property
    def kinds(self) -> dict[str, int]:
        """How many verdicts of each kind."""
        return dict(Counter(judged.verdict.kind for judged in self.judged))

    @property
    def judges(self) -> dict[str, int]:
        """How many verdicts each judge reached."""
        return dict(Counter(judged.verdict.judge for judged in self.judged))

    def values(self) -> dict[str, float]:
        """The scores as bare numbers."""
        return {name: score.value for name, score in self.scores.items()}

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "benchmark": self.name,
            "title": self.title,
            "profile": self.profile,
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "profiles": self.profiles or {self.profile: self.values()},
            "verdicts": self.kinds,
            "judges": self.judges,
            "isolation": self.isolation.to_dict(),
            "prompts_shortened": self.prompts_shortened,
        }


def pass_scores(judged: Sequence[Judged], repeat: dict[str, Any]) -> list[Score]:
    """pass@k for the ks that every problem has samples enough for."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in judged:
        counts[one.task_id][0] += 1
        counts[one.task_id][1] += one.passed
    pairs = [(samples, correct) for samples, correct in counts.values()]
    fewest = min(samples for samples, _ in pairs)
    return [score_pass_at_k(pairs, k, repeat) for k in KS if k <= fewest]


def gold_score(rows: Sequence[dict[str, Any]], repeat: dict[str, Any]) -> Score:
    """The mean over problems of bits per byte.

    Raises:
        EvaluationError: when no reference fits the model's length.
    """
    values = [row["bits"] / row["bytes"] for row in rows if row["bits"] is not None]
    if not values:
        raise EvaluationError("no reference solution fits the model's length: evaluate a model with a longer context")
    return score_mean(GOLD, values, repeat)
