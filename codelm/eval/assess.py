"""From completions to a result: judge what is not judged, score, and write the summary and the report. No torch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codelm.eval import results
from codelm.eval.judge.contract import Judge
from codelm.eval.judging import cut_samples, judge_cut
from codelm.eval.postprocess import Profile
from codelm.eval.problem import Benchmark
from codelm.eval.records import Completion
from codelm.eval.report import write_report
from codelm.eval.scoring import Result, gold_score, pass_scores


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
    scores = pass_scores(judged, repeat)
    if gold:
        scores.append(gold_score([gold[problem.task_id] for problem in benchmark.problems], repeat))
    result = Result(
        name=benchmark.name,
        title=benchmark.title,
        profile=profile.label,
        scores={score.name: score for score in scores},
        judged=judged,
        isolation=judge.isolation,
        prompts_shortened=len({c.task_id for c in completions if c.prompt_left_out}),
    )
    return result if folder is None else write_report(folder, result, benchmark)
