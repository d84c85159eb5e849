"""What decontamination cannot find cannot be kept out of training: it has no place in a benchmark."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import problem_of
from codelm.eval.repository.settings import Built

REASON = "cannot be kept out of training"


def unfindable(rows: Iterable[dict[str, Any]]) -> set[str]:
    """The ids of those of a manifest's lines that data preparation, by its defaults, could not find in a file."""
    needles = Needles.build(problem_of(row, "", number) for number, row in enumerate(rows))
    return {id for _, id in needles.uncovered}


def without_unfindable(rows: list[dict[str, Any]], built: Built) -> list[dict[str, Any]]:
    """The lines that can be kept out of training; the masks of the others are counted as removed by a gate."""
    lost = unfindable(rows)
    for row in rows:
        if row["row"] == "function" and row["task_id"] in lost:
            for kind, number in Counter(mask["kind"] for mask in row["masks"]).items():
                counts = built.gates[kind]
                counts["kept"] -= number
                counts[REASON] = counts.get(REASON, 0) + number
    return [row for row in rows if row["row"] != "function" or row["task_id"] not in lost]
