"""A number for each problem and metric: all that comparing needs to know of a benchmark.

They are read from the files of an evaluation, whatever task wrote them:

- `verdicts.<profile>.jsonl`: pass@k, for each k that every problem has samples enough for; or whether files parse;
- `gold.jsonl`: bits and bytes of the reference solutions, and of documents of which nothing was to be completed;
- any other JSONL file whose lines have a `task_id`: each of their numbers and truth values is a metric of its own name;
  `bits` and `bytes` together are bits per byte, weighted with the bytes.

A line may name a `cluster`, the group of problems that are not independent of it; else the id tells.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.eval import results
from codelm.eval.judge.verdict import COMPARED, PARSER
from codelm.eval.scoring import BITS_PER_BYTE, GOLD, KS, PARSES
from codelm.eval.statistics import pass_at_k

_LOWER_IS_BETTER = re.compile(r"bpb|bits|loss|perplexity|error|distance|seconds")
_NO_METRICS = frozenset({
    "task_id", "cluster", "sample", "bits", "bytes", "seconds", "cpu_seconds", "tokens", "characters", "lines",
    "weight", "first", "last", "ids", "prompt_left_out",
})  # fmt: skip
_OTHERS = ("samples.", "verdicts.", "gold.")
_GAP = re.compile(r"^.+:(body|block|statement|line)(?:@\d+(?:[-:]\d+)*)?$")
# A mask of a function, a gap in a held-out file; HumanEval's infilling: all gaps of one reference solution.
_PARTS = (
    re.compile(r"^(.+):(?:body|block|statement|line)(?:@\d+(?:[-:]\d+)*)?$"),
    re.compile(r"^.*?(HumanEval/\d+)/.+$"),
)


@dataclass(frozen=True)
class Measure:
    """A metric's value on a problem, and its weight in the mean."""

    value: float
    weight: float = 1.0


Measures = dict[str, dict[str, Measure]]
"""By metric, then by the problem's id."""


def read_measures(folder: Path, verdicts: Path) -> tuple[Measures, dict[str, str]]:
    """What was measured on each problem, and the clusters of the problems.

    Args:
        verdicts: the file of verdicts of the profile to score with; it may be absent.
    """
    measures: Measures = {}
    named: dict[str, str] = {}
    judged = results.read_lines(verdicts)
    measures |= _passes(judged)
    gold = results.read_lines(folder / results.GOLD)
    completed = {row["task_id"] for row in judged}
    for row in gold:
        if row.get("bits") is not None and row["bytes"]:
            metric, weight = (GOLD, 1) if row["task_id"] in completed else (BITS_PER_BYTE, row["bytes"])
            measures.setdefault(metric, {})[row["task_id"]] = Measure(row["bits"] / row["bytes"], weight)
    for file in sorted(folder.glob("*.jsonl")):
        if not file.name.startswith(_OTHERS):
            rows = [row for row in results.read_lines(file) if isinstance(row, dict) and "task_id" in row]
            for metric, values in _numbers(rows).items():
                measures.setdefault(metric, values)
            named |= {row["task_id"]: str(row["cluster"]) for row in rows if row.get("cluster")}
    for metric, values in _numbers(judged, ("passed",)).items():
        measures.setdefault(metric, values)
    ids = {task_id for values in measures.values() for task_id in values}
    return measures, {task_id: named.get(task_id) or cluster_of(task_id) for task_id in ids}


def cluster_of(task_id: str) -> str:
    """What a problem shares with others that are not independent of it: a function, a file, a reference solution."""
    for pattern in _PARTS:
        if match := pattern.match(task_id):
            return match[1]
    return task_id


def kind_of(task_id: str) -> str:
    """What kind of gap a problem of a repository or a held-out file is; empty where it is none."""
    match = _GAP.match(task_id)
    return match[1] if match else ""


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is more, by its name."""
    return bool(_LOWER_IS_BETTER.search(metric))


def _passes(judged: Sequence[dict[str, Any]]) -> Measures:
    counts: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    rows = [row for row in judged if row["verdict"] != COMPARED]
    for row in rows:
        counts[row["task_id"]][0] += 1
        counts[row["task_id"]][1] += bool(row["passed"])
    if any(row.get("judge") == PARSER for row in rows):
        return {PARSES: {task_id: Measure(pass_at_k(n, right, 1)) for task_id, (n, right) in counts.items()}}
    fewest = min((samples for samples, _ in counts.values()), default=0)
    return {
        f"pass@{k}": {task_id: Measure(pass_at_k(n, correct, k)) for task_id, (n, correct) in counts.items()}
        for k in KS
        if k <= fewest
    }


def _numbers(rows: Iterable[dict[str, Any]], besides: Iterable[str] = ()) -> Measures:
    """The metrics of lines: means over the lines of a problem."""
    found: defaultdict[str, defaultdict[str, list[Measure]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if isinstance(row.get("bits"), int | float) and row.get("bytes"):
            found[BITS_PER_BYTE][row["task_id"]].append(Measure(row["bits"] / row["bytes"], row["bytes"]))
        for name, value in row.items():
            if isinstance(value, int | float) and name not in _NO_METRICS and name not in besides:
                found[name][row["task_id"]].append(Measure(float(value)))
    return {
        metric: {task_id: _mean(measures) for task_id, measures in by_problem.items()}
        for metric, by_problem in found.items()
    }


def _mean(measures: list[Measure]) -> Measure:
    weight = sum(measure.weight for measure in measures)
    return Measure(sum(measure.value * measure.weight for measure in measures) / weight, weight)
