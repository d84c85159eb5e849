"""What `judge.py` does once everything is imported: read completions, judge them, and say what came out."""

import argparse
from pathlib import Path
from typing import Any

import yaml
from progress import ProgressBars
from report import print_result

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import TaskSection, TasksSection
from codelm.console import setup_logging
from codelm.errors import EvaluationError
from codelm.eval import results
from codelm.eval.assess import score
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.judging import cut_samples, judge_cut
from codelm.eval.postprocess import PROFILES
from codelm.eval.samples import read_samples, samples_hash

VERDICTS = "verdicts.jsonl"
_OWN = "own"


def run(description: str | None) -> None:
    args = parse(description)
    setup_logging()
    name, section = task_of(args.benchmark, args.path, args.options)
    benchmark = load_benchmark(name, section)
    found = read_samples(args.samples, benchmark.problems)
    profile = PROFILES[args.profile]
    if args.workers is not None and args.workers < 1:
        raise EvaluationError(f"--workers {args.workers}: at least one program is judged at once")
    sandbox = SandboxSection(num_workers=args.workers, min_level=args.min_level)
    with benchmark.open_judge(sandbox) as judge, ProgressBars() as progress:
        settings: dict[str, Any] = {
            "benchmark": benchmark.name,
            "problems_sha256": benchmark.sha256(),
            "samples": str(args.samples),
            "samples_sha256": samples_hash(args.samples),
            "postprocess": profile.label,
            "sandbox": judge.isolation.level,
            "limits": judge.limits.to_dict(),
            "versions": benchmark.versions,
        }
        results.open_folder(args.output, settings)
        cut = cut_samples(benchmark.problems, found.samples, profile)
        judged = judge_cut(judge, benchmark.problems, cut, args.output / VERDICTS, (), progress)
        result = score(benchmark, judged, {}, profile, settings, judge.isolation, args.output)
    print_result(result, args.output)
    if found.left_out:
        raise EvaluationError(str(found.complaint()))


def task_of(name: str, path: str | None, options: list[str]) -> tuple[str, TaskSection]:
    """The benchmark's name and section, with what the command line says of it."""
    name, _, language = name.partition("-")
    if name not in TasksSection.model_fields or name == "custom":
        load_benchmark(name, TaskSection())  # says which there are
    said: dict[str, Any] = {} if path is None else {"path": path}
    if language:
        said["languages"] = [language]
    for option in options:
        key, equals, value = option.partition("=")
        if not equals:
            raise EvaluationError(f"{option}: options of the benchmark are written key=value, such as split=all")
        try:
            said[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise EvaluationError(f"{option}: {value} is no YAML ({str(error).splitlines()[0]})") from None
    try:
        named = {"repository": {_OWN: said}} if name == "repository" else {name: said}
        sections = TasksSection.model_validate(named).chosen()
    except ValueError as error:
        problem: Any = error
        first = problem.errors()[0] if hasattr(problem, "errors") else {"loc": (), "msg": str(error)}
        raise EvaluationError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if len(sections) > 1:
        raise EvaluationError(f"--benchmark {name} is several benchmarks; name a language, such as {name}-cpp")
    return next(iter(sections.items()))


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").partition("\n\n")[0])
    parser.add_argument(
        "--benchmark",
        required=True,
        help="humaneval, humaneval_plus, mbpp, mbpp_plus, infilling, multipl_e-cpp, repository …",
    )
    parser.add_argument(
        "--path", help="the benchmark's file (a repository's: its folder), where it has none of its own"
    )
    parser.add_argument("--samples", required=True, type=Path, help="the completions: a file, or MultiPL-E's folder")
    parser.add_argument("--output", required=True, type=Path, help="a folder for verdicts and scores")
    parser.add_argument(
        "--profile", choices=PROFILES, default="none", help="how to cut completions first (%(default)s)"
    )
    parser.add_argument("--workers", type=int, help="programs judged at once; one a core")
    parser.add_argument("--min-level", choices=("none", "rlimits", "landlock"), default="rlimits")
    parser.add_argument("options", nargs="*", metavar="key=value", help="of the benchmark's section, such as split=all")
    return parser.parse_args()
