"""The third stage: from verdicts to scores."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from codelm.errors import EvaluationError
from codelm.eval.judge.verdict import COMPARED, PARSER
from codelm.eval.problem import Problem
from codelm.eval.records import Judged
from codelm.eval.sandbox.confine import Isolation
from codelm.eval.similarity import edit_similarity, exact_match, identifier_match
from codelm.eval.statistics import Score, score_mean, score_pass_at_k, score_ratio

KS = (1, 10, 100)
GOLD = "gold_bpb"
"""Bits per byte of the reference solutions."""
EXACT_MATCH, EDIT_SIMILARITY = "exact_match", "edit_similarity"
"""Of completions and references, as texts."""
IDENTIFIER_MATCH = "identifier_match"
"""Of the names in both, in their order."""
PARSES = "parses"
"""The share of completions with which their file is well-formed, where it was."""
BITS_PER_BYTE = "bits_per_byte"
"""Of whole documents."""


@dataclass(frozen=True)
class Result:
    """What came out: scores first, and all that they rest on.

    Attributes:
        name, title: of the benchmark.
        profile: name and version of the post-processing profile.
        scores: by name: pass@k for each k up to the number of samples; of problems whose completions are also compared
            with the references, `exact_match` and `edit_similarity`; `gold_bpb` where it was measured.
        by_kind: the same for each kind of problem, where there are several.
        judged: every verdict.
        profiles: the scores under every profile that this folder has been scored with, this one included.
    """

    name: str
    title: str
    profile: str
    scores: dict[str, Score]
    judged: list[Judged]
    isolation: Isolation
    by_kind: dict[str, dict[str, Score]] = field(default_factory=dict)
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
            "by_kind": {
                kind: {name: score.to_dict() for name, score in scores.items()} for kind, scores in self.by_kind.items()
            },
            "profiles": self.profiles or {self.profile: self.values()},
            "verdicts": self.kinds,
            "judges": self.judges,
            "isolation": self.isolation.to_dict(),
            "prompts_shortened": self.prompts_shortened,
        }


def all_scores(
    problems: Sequence[Problem],
    judged: Sequence[Judged],
    likeness: Sequence[dict[str, Any]],
    gold: Mapping[str, dict[str, Any]],
    repeat: dict[str, Any],
) -> dict[str, Score]:
    """Every score of these problems, by name.

    Args:
        judged, likeness, gold: verdicts, rows of `compare_texts`, and bits by problem, also of other problems.
    """
    ids = {problem.task_id for problem in problems}
    scores = pass_scores([one for one in judged if one.task_id in ids], repeat)
    scores += likeness_scores([row for row in likeness if row["task_id"] in ids], repeat)
    for documents in (False, True):
        rows = [gold[p.task_id] for p in problems if p.completed != documents and p.task_id in gold]
        if rows:
            scores.append(document_score(rows, repeat) if documents else gold_score(rows, repeat))
    return {score.name: score for score in scores}


def compare_texts(problems: Sequence[Problem], judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """How alike completions and references are, for the problems where that is asked: a row each."""
    golds = {problem.task_id: problem.gold for problem in problems if problem.compared}
    return [
        {
            "task_id": one.task_id,
            "sample": one.sample,
            EXACT_MATCH: exact_match(one.completion, golds[one.task_id]),
            EDIT_SIMILARITY: round(edit_similarity(one.completion, golds[one.task_id]), 6),
            IDENTIFIER_MATCH: identifier_match(one.completion, golds[one.task_id]),
        }
        for one in judged
        if one.task_id in golds
    ]


def likeness_scores(rows: Sequence[dict[str, Any]], repeat: dict[str, Any]) -> list[Score]:
    """The means over problems of what `compare_texts` found; none of nothing."""
    by_problem: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_problem[row["task_id"]].append(row)
    return [
        score_mean(name, [sum(row[name] for row in of_one) / len(of_one) for of_one in by_problem.values()], repeat)
        for name in (EXACT_MATCH, EDIT_SIMILARITY, IDENTIFIER_MATCH)
        if rows
    ]


def pass_scores(judged: Sequence[Judged], repeat: dict[str, Any]) -> list[Score]:
    """pass@k for the ks that every problem has samples enough for; `parses` instead, where a parser is the judge."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for one in judged:
        if one.verdict.kind == COMPARED:
            continue
        counts[one.task_id][0] += 1
        counts[one.task_id][1] += one.passed
    pairs = [(samples, correct) for samples, correct in counts.values()]
    if not pairs:
        return []
    if any(one.verdict.judge == PARSER for one in judged):
        return [replace(score_pass_at_k(pairs, 1, repeat), name=PARSES)]
    fewest = min(samples for samples, _ in pairs)
    return [score_pass_at_k(pairs, k, repeat) for k in KS if k <= fewest]


def document_score(rows: Sequence[dict[str, Any]], repeat: dict[str, Any]) -> Score:
    """Bits per byte of documents: all their bits over all their bytes."""
    return score_ratio(BITS_PER_BYTE, [(row["bits"], row["bytes"]) for row in rows], repeat)


def gold_score(rows: Sequence[dict[str, Any]], repeat: dict[str, Any]) -> Score:
    """The mean over problems of bits per byte.

    Raises:
        EvaluationError: when no reference fits the model's length.
    """
    values = [row["bits"] / row["bytes"] for row in rows if row["bits"] is not None]
    if not values:
        raise EvaluationError("no reference solution fits the model's length: evaluate a model with a longer context")
    return score_mean(GOLD, values, repeat)
