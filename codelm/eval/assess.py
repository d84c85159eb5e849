"""From completions to a result: judge what is not judged, score, and write the summary and the report. No torch."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codelm.eval import results
from codelm.eval.judge.contract import Judge
from codelm.eval.judging import cut_samples, judge_cut
from codelm.eval.postprocess import Profile
from codelm.eval.problem import Benchmark, Problem
from codelm.eval.records import Completion, Judged
from codelm.eval.report import write_report
from codelm.eval.sandbox.confine import Isolation
from codelm.eval.scoring import Result, all_scores, compare_texts


def assess(
    judge: Judge,
    benchmark: Benchmark,
    completions: Sequence[Completion],
    gold: Mapping[str, dict[str, Any]],
    profile: Profile,
    settings: dict[str, Any],
    folder: Path | None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Result:
    """A benchmark's result under a profile.

    Args:
        completions: of all problems, in their order.
        gold: by problem, the bits and bytes of its reference solution; empty when they were not measured.
        settings: what it takes to repeat the scores.
        folder: where verdicts, summary and report are kept; None keeps nothing.
    """
    samples = [(c.task_id, c.sample, c.continuation, c.ended) for c in completions]
    file = results.verdicts_file(folder, profile.label) if folder else None
    others = results.other_verdicts(folder, profile.label) if folder else []
    cut = cut_samples(benchmark.problems, samples, profile)
    judged = judge_cut(judge, benchmark.problems, cut, file, others, progress)
    repeat = {**settings, "postprocess": profile.label}
    shortened = len({c.task_id for c in completions if c.prompt_left_out})
    return score(benchmark, judged, gold, profile, repeat, judge.isolation, folder, shortened)


def score(
    benchmark: Benchmark,
    judged: Sequence[Judged],
    gold: Mapping[str, dict[str, Any]],
    profile: Profile,
    repeat: dict[str, Any],
    isolation: Isolation,
    folder: Path | None,
    prompts_shortened: int = 0,
) -> Result:
    """The scores of verdicts, of all problems or of some; summary and report into the folder, if there is one."""
    likeness = compare_texts(benchmark.problems, judged)
    if likeness and folder:
        results.write_lines(folder / results.LIKENESS, likeness)
    present = {one.task_id for one in judged} | {p.task_id for p in benchmark.problems if not p.completed}
    kinds: dict[str, list[Problem]] = defaultdict(list)
    for problem in benchmark.problems:
        if problem.task_id in present:
            kinds[problem.group or problem.kind].append(problem)
    problems = [problem for of_kind in kinds.values() for problem in of_kind]
    result = Result(
        name=benchmark.name,
        title=benchmark.title,
        profile=profile.label,
        scores=all_scores(problems, judged, likeness, gold, repeat),
        by_kind={
            kind: all_scores(of_kind, judged, likeness, gold, {})
            for kind, of_kind in sorted(kinds.items())
            if len(kinds) > 1
        },
        judged=list(judged),
        isolation=isolation,
        prompts_shortened=prompts_shortened,
    )
    return result if folder is None else write_report(folder, result, benchmark)
