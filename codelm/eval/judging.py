"""The second stage: from completions to verdicts, each kept as soon as it is there, none reached twice. No torch."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from codelm.eval import results
from codelm.eval.judge.contract import Judge
from codelm.eval.judge.verdict import Verdict
from codelm.eval.postprocess import Profile
from codelm.eval.problem import Problem
from codelm.eval.records import Judged

Sample = tuple[str, int, str, bool]
"""task_id, the sample's number, the text behind the prompt, and whether it came to an end of itself."""


def cut_samples(problems: Sequence[Problem], samples: Iterable[Sample], profile: Profile) -> list[tuple[str, int, str]]:
    """task_id, number, and what the profile leaves of the text."""
    by_id = {problem.task_id: problem for problem in problems}
    return [(task_id, number, profile.cut(by_id[task_id], text, ended)) for task_id, number, text, ended in samples]


def judge_cut(
    judge: Judge,
    problems: Sequence[Problem],
    cut: Sequence[tuple[str, int, str]],
    file: Path | None,
    others: Sequence[Path] = (),
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Judged]:
    """Judge what has no verdict yet; equal completions of a problem are judged once.

    Args:
        cut: see `cut_samples`.
        file: where verdicts are kept, and found; each is written as it comes, and all in order at the end.
        others: files of other profiles' verdicts under the same limits, which serve where the completion is the same.

    Returns:
        A verdict on each, in their order. What the judge failed to judge is tried again by the next run.
    """
    by_id = {problem.task_id: problem for problem in problems}
    own = _stored(file) if file else []
    stored = [*own, *(judged for path in others for judged in _stored(path))]
    known = {(judged.task_id, judged.completion): judged.verdict for judged in stored}
    written = {judged.key for judged in own}
    waiting: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (task_id, _, completion) in enumerate(cut):
        if (task_id, completion) not in known:
            waiting[task_id, completion].append(place)
    count = len(cut) - sum(map(len, waiting.values()))

    def keep(places: Iterable[int], verdict: Verdict) -> None:
        if file is not None:
            for place in places:
                results.append_line(file, Judged(*cut[place], verdict).to_dict())

    for place, (task_id, number, completion) in enumerate(cut):
        if (task_id, completion) in known and (task_id, number) not in written:
            keep([place], known[task_id, completion])
    if progress:
        progress("judge", count, len(cut))
    jobs = [by_id[cut[places[0]][0]].job(cut[places[0]][2], id=str(places[0])) for places in waiting.values()]

    def judged(verdict: Verdict) -> None:
        nonlocal count
        task_id, _, completion = cut[int(verdict.id)]
        places = waiting[task_id, completion]
        known[task_id, completion] = verdict
        keep(places, verdict)
        count += len(places)
        if progress:
            progress("judge", count, len(cut))

    if jobs:
        judge.judge(jobs, judged)
    done = [Judged(task_id, number, text, _named(known[task_id, text], task_id)) for task_id, number, text in cut]
    if file is not None and jobs:
        results.write_lines(file, (judged.to_dict() for judged in done))
    return done


def _stored(file: Path) -> list[Judged]:
    rows = (Judged.from_dict(row) for row in results.read_lines(file))
    return [judged for judged in rows if judged.verdict.kind != "unjudged"]


def _named(verdict: Verdict, task_id: str) -> Verdict:
    return Verdict(**{**verdict.to_dict(), "id": task_id})
