"""What `build_repo_benchmark.py` does once everything is imported: read the command line, and build."""

import argparse
from pathlib import Path

from progress import ProgressBars
from repository_report import print_built

from codelm.console import setup_logging
from codelm.eval.repository.build import build
from codelm.eval.repository.gates import GateSettings
from codelm.eval.repository.settings import BuildSettings
from codelm.eval.sandbox.confine import LEVELS


def run(description: str | None) -> None:
    arguments = _parse(description)
    setup_logging()
    gates = GateSettings(arguments.references, arguments.mutants, arguments.killed, arguments.max_seconds)
    settings = BuildSettings(
        seed=arguments.seed,
        repeats=arguments.repeats,
        test_seconds=arguments.test_seconds,
        min_lines=arguments.min_lines,
        max_lines=arguments.max_lines,
        blocks=arguments.blocks,
        statements=arguments.statements,
        most_tests=arguments.most_tests,
        share=arguments.share,
        held_out=arguments.held_out,
        min_level=arguments.min_level,
        gates=gates,
    )
    with ProgressBars() as progress:
        built = build(
            arguments.repository, arguments.python, Path(arguments.output), settings, arguments.workers, progress
        )
    print_built(built)


def _parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    plain, strict = BuildSettings(), GateSettings()
    add("repository", help="its folder; the working tree is copied and never changed")
    add("--python", help="the bin/python of its environment (3.10 or newer, with pytest); without it nothing is judged"
        " by tests")  # fmt: skip
    add("-o", "--output", required=True, help="the benchmark's folder")
    add("--workers", type=_positive, help="runs of pytest at once (one a core)")
    add("--seed", type=int, default=plain.seed, help="what is drawn (%(default)s)")
    add("--repeats", type=_positive, default=plain.repeats, help="runs of the whole suite (%(default)s)")
    add("--test-seconds", type=float, default=plain.test_seconds, help="the longest a test may take (%(default)s)")
    add("--min-lines", type=_positive, default=plain.min_lines, help="of a body (%(default)s)")
    add("--max-lines", type=_positive, default=plain.max_lines, help="of a body (%(default)s)")
    add("--blocks", type=int, default=plain.blocks, help="masked in a function (%(default)s)")
    add("--statements", type=int, default=plain.statements, help="masked in a function (%(default)s)")
    add("--most-tests", type=_positive, default=plain.most_tests, help="that judge a mask (%(default)s)")
    add("--share", type=_share, default=plain.share, help="of the files whose functions are masked (%(default)s)")
    add("--held-out", type=_share, default=plain.held_out, help="share of each language's files (%(default)s)")
    add("--min-level", choices=LEVELS, default=plain.min_level, help="of isolation (%(default)s)")
    add("--references", type=_positive, default=strict.references, help="times it must pass (%(default)s)")
    add("--mutants", type=_positive, default=strict.mutants, help="of a mask at most (%(default)s)")
    add("--killed", type=_share, default=strict.killed, help="the share of mutants that must fail (%(default)s)")
    add("--max-seconds", type=float, default=strict.max_seconds, help="CPU time of a run (%(default)s)")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share between 0 and 1")
    return value
