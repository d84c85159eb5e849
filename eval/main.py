"""Judge a checkpoint as a YAML says: `python eval/main.py yamls/quickstart/eval.yaml [key=value …]` (eval/README.md).

With `composer eval/main.py …` several processes share the prompts. The same command again goes on where it stopped.
`--self-test` (of the YAML's benchmarks) and `--sandbox-check` need no YAML.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from codelm.config.cli import parse_command_line
from codelm.config.eval import EvalConfig, EvalModelSection
from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import HumanEvalSection, MultiplELanguage, MultiplESection, TasksSection
from codelm.console import setup_logging
from codelm.errors import EvaluationError, exit_on_error
from codelm.startup import many_imports

if TYPE_CHECKING:
    from codelm.eval.problem import Benchmark

log = logging.getLogger("codelm.eval.main")


@exit_on_error
def main() -> None:
    flags = {"--self-test", "--sandbox-check"}.intersection(sys.argv[1:])
    if flags and not any(argument.endswith((".yaml", ".yml")) or argument == "--help" for argument in sys.argv[1:]):
        everything = MultiplESection(languages=list(get_args(MultiplELanguage)))
        check_machine(flags, SandboxSection(), TasksSection(humaneval=HumanEvalSection(), multipl_e=everything))
        return
    command = parse_command_line("eval", extra=_add_flags)
    assert isinstance(command.config, EvalConfig)
    setup_logging()
    if flags:
        check_machine(flags, command.config.sandbox, command.config.tasks)
    else:
        evaluate(command.config, command.dry_run)


def evaluate(config: EvalConfig, dry_run: bool) -> None:
    """Evaluate the checkpoint on each benchmark, or say what an evaluation would do.

    A benchmark that cannot be evaluated is left out, which is said at the end; the others go on.
    """
    from codelm.eval.benchmarks.registry import load_benchmark

    left_out: list[str] = []
    benchmarks: dict[str, Benchmark] = {}
    for name, section in config.tasks.chosen().items():
        try:
            benchmarks[name] = load_benchmark(name, section)
        except EvaluationError as error:
            left_out.append(str(error))
    if benchmarks:
        left_out += _evaluate(config, benchmarks, dry_run)
    if left_out:
        raise EvaluationError("; ".join(left_out))


def _evaluate(config: EvalConfig, benchmarks: dict[str, Benchmark], dry_run: bool) -> list[str]:
    """Evaluate; what had to be left out."""
    # torch and transformers take seconds to import: only once the configuration is known to be good.
    with many_imports():
        from processes import join_processes
        from progress import ProgressBars
        from report import print_result

        from codelm.eval import run
        from codelm.eval.prompts import why_not

    sections, left_out = config.tasks.chosen(), []
    model, tokenizer = load_model(config.model)
    ranks = join_processes()
    for name, benchmark in benchmarks.items():
        if reason := why_not(tokenizer, benchmark.problems):
            left_out.append(f"tasks.{name} was left out: {reason}")
            continue
        arguments = (model, tokenizer, benchmark, sections[name], config.sandbox)
        folder = Path(config.output_folder) / name
        try:
            if dry_run:
                print(run.preview(*arguments))
                continue
            with ProgressBars(shown=ranks.first) as progress:
                result = run.evaluate(*arguments, config.seed, folder, progress, config.model.path, ranks)
            if result is not None:
                print_result(result, folder)
        except EvaluationError as error:
            if len(benchmarks) == 1 or ranks.size > 1:
                raise  # another rank would wait for this one
            left_out.append(f"tasks.{name} was left out: {error}")
    return left_out


def load_model(section: EvalModelSection) -> tuple[Any, Any]:
    """Model and tokenizer of the checkpoint, on this process's device."""
    with many_imports():
        import torch

        from codelm.model.pretrained import load

    device = section.device.replace("gpu", "cuda")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        if not torch.cuda.is_available():
            raise EvaluationError("model.device is gpu, and torch sees none: set it to cpu or auto")
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
    auto = torch.float32 if device == "cpu" else torch.bfloat16
    dtype = auto if section.dtype == "auto" else getattr(torch, section.dtype)
    return load(section.path, dtype, device)


def check_machine(flags: set[str], sandbox: SandboxSection, tasks: TasksSection) -> None:
    """Try the sandbox and the judge on programs whose outcome is known; exit code 1 if one is not as it must be."""
    from progress import ProgressBars
    from report import print_sandbox, print_self_test

    from codelm.eval.benchmarks.registry import load_benchmark
    from codelm.eval.selftest import check_sandbox, run_self_test

    if "--sandbox-check" in flags:
        print_sandbox(*check_sandbox(sandbox))
    if "--self-test" in flags:
        # MultiPL-E has no references: programs of our own stand in, in every language unless a YAML says which.
        chosen, languages = tasks.chosen(), tasks.multipl_e.languages if tasks.multipl_e else []
        named = [load_benchmark(name, section) for name, section in chosen.items() if not name.startswith("multipl_e")]
        with ProgressBars() as progress:
            outcome = run_self_test(sandbox, named, languages, progress)
        print_self_test(outcome)
        sys.exit(1 if outcome.wrong else 0)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--self-test", action="store_true", help="judge programs whose verdict is known, stop")
    parser.add_argument("--sandbox-check", action="store_true", help="show what programs are kept from, stop")


if __name__ == "__main__":
    main()
