"""What was gained and lost: problems on which two systems differ, with both completions."""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from codelm.config.evaluation.tasks import TaskSection, TasksSection
from codelm.errors import CodelmError
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.compare.folders import Evaluated
from codelm.eval.compare.measures import lower_is_better
from codelm.eval.problem import Problem
from codelm.eval.scoring import EDIT_SIMILARITY

_PROMPT_LINES, _SUFFIX_LINES, _CHARACTERS = 14, 4, 1500


@dataclass(frozen=True)
class Example:
    """A problem that one of two systems did better.

    Attributes:
        gained: the second one did.
        prompt: the end of what the models saw; empty where the benchmark's data is no longer there.
        suffix: the beginning of what stands behind the gap, where there is one.
        first, second: their completions as they were judged.
        verdicts: what both deserved, in words.
    """

    benchmark: str
    task_id: str
    gained: bool
    prompt: str
    suffix: str
    first: str
    second: str
    verdicts: tuple[str, str]

    def to_dict(self) -> dict[str, Any]:
        """For compare.json."""
        return {**vars(self), "verdicts": list(self.verdicts)}


def find_examples(first: Evaluated, second: Evaluated, most: int) -> tuple[list[Example], dict[str, list[str]]]:
    """Some problems gained and some lost, at most `most` of each, and the ids of all: `gained` and `lost`.

    The metric that decides is pass@1 where programs were judged, else how alike texts are. With several samples, or
    another metric, the largest differences come first; among equals the order is that of a hash of their ids.
    """
    metric = deciding_metric(first, second)
    sign = -1 if lower_is_better(metric) else 1
    old, new = first.measures[metric], second.measures[metric]
    changes = {task_id: sign * (new[task_id].value - old[task_id].value) for task_id in old if task_id in new}
    order = sorted(
        (task_id for task_id in changes if changes[task_id]), key=lambda one: (-abs(changes[one]), _hash(one))
    )
    ids = {
        "gained": [task_id for task_id in order if changes[task_id] > 0],
        "lost": [task_id for task_id in order if changes[task_id] < 0],
    }
    if not first.verdicts or not second.verdicts:
        return [], ids
    chosen = [*ids["gained"][:most], *ids["lost"][:most]]
    problems = _problems(first) if chosen else {}
    shown = [task_id for task_id in chosen if task_id in first.verdicts and task_id in second.verdicts]
    return [_example(first, second, task_id, changes[task_id] > 0, problems.get(task_id)) for task_id in shown], ids


def deciding_metric(first: Evaluated, second: Evaluated) -> str:
    """The metric by which problems are gained and lost."""
    shared = [metric for metric in first.measures if metric in second.measures]
    return next((metric for metric in ("pass@1", EDIT_SIMILARITY) if metric in shared), shared[0])


def _example(first: Evaluated, second: Evaluated, task_id: str, gained: bool, problem: Problem | None) -> Example:
    rows = first.verdicts[task_id], second.verdicts[task_id]
    wanted = (not gained, gained)
    told = [
        next((row for row in one if bool(row["passed"]) == want), one[0])
        for one, want in zip(rows, wanted, strict=True)
    ]
    prompt = "" if problem is None else _last_lines(problem.prompt, _PROMPT_LINES)
    suffix = "" if problem is None else _first_lines(problem.suffix or "", _SUFFIX_LINES)
    texts = [str(row["completion"])[:_CHARACTERS] for row in told]
    verdicts = [_in_words(row, one) for row, one in zip(told, rows, strict=True)]
    return Example(first.name, task_id, gained, prompt, suffix, texts[0], texts[1], (verdicts[0], verdicts[1]))


def _in_words(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    detail = " ".join(str(row.get("detail") or "").split())[:160]
    several = f"; {sum(bool(one['passed']) for one in rows)} of {len(rows)} samples passed" if len(rows) > 1 else ""
    return f"{row['verdict']}{f': {detail}' if detail and not row['passed'] else ''}{several}"


def _problems(evaluated: Evaluated) -> dict[str, Problem]:
    """The benchmark's problems, if its data is there and what it was; a comparison is not worth refusing for them."""
    for section in _sections(evaluated):
        try:
            benchmark = load_benchmark(evaluated.name, section)
        except CodelmError:
            continue
        if benchmark.sha256() == evaluated.settings.get("problems_sha256"):
            return {problem.task_id: problem for problem in benchmark.problems}
    return {}


def _sections(evaluated: Evaluated) -> Iterator[TaskSection]:
    """The sections that the evaluation may have had, as its settings tell: those whose keys are all there."""
    settings, fields = evaluated.settings, TasksSection.model_fields
    family = fields.get(evaluated.name.partition("-")[0])
    for field in [family] if family is not None else fields.values():
        for kind in _kinds(field.annotation):
            keys = kind.model_fields.keys() - {"end_at", "postprocess", "gold"}
            if keys <= settings.keys():
                with contextlib.suppress(ValueError):
                    yield kind.model_validate({key: settings[key] for key in keys})


def _kinds(annotation: Any) -> Iterator[type[TaskSection]]:
    """The sections in a type such as `dict[str, CustomSection]`."""
    if isinstance(annotation, type) and issubclass(annotation, TaskSection):
        yield annotation
    for part in get_args(annotation):
        yield from _kinds(part)


def _last_lines(text: str, count: int) -> str:
    lines = text[-4 * _CHARACTERS :].splitlines(keepends=True)
    return "".join(lines[-count:])


def _first_lines(text: str, count: int) -> str:
    return "".join(text[: 4 * _CHARACTERS].splitlines(keepends=True)[:count])


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
