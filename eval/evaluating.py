"""What `main.py` does once everything is imported: read the command line, then evaluate, or try the machine."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from codelm.config.cli import parse_command_line
from codelm.config.eval import EvalConfig, EvalModelSection
from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import HumanEvalSection, MultiplELanguage, MultiplESection, TasksSection
from codelm.console import setup_logging
from codelm.errors import CodelmError, EvaluationError, from_os_error
from codelm.startup import many_imports

if TYPE_CHECKING:
    from codelm.eval.problem import Benchmark

log = logging.getLogger("codelm.eval.main")

_ELSEWHERE = (
    "humaneval_plus, mbpp, mbpp_plus and infilling are not judged: no package brings their problems; name their files"
    " in a YAML"
)


def run() -> None:
    flags = {"--self-test", "--sandbox-check"}.intersection(sys.argv[1:])
    if flags and not any(argument.endswith((".yaml", ".yml")) or argument == "--help" for argument in sys.argv[1:]):
        everything = MultiplESection(languages=list(get_args(MultiplELanguage)))
        tasks = TasksSection(humaneval=HumanEvalSection(), multipl_e=everything)
        check_machine(flags, SandboxSection(), tasks, [_ELSEWHERE])
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

    loaded: dict[str, Benchmark | EvaluationError] = {}
    for name, section in config.tasks.chosen().items():
        try:
            loaded[name] = load_benchmark(name, section)
        except EvaluationError as error:
            loaded[name] = error
    absent = [str(error) for error in loaded.values() if isinstance(error, EvaluationError)]
    left_out = _evaluate(config, loaded, dry_run) if len(absent) < len(loaded) else absent
    if left_out:
        raise EvaluationError("; ".join(left_out))


def _evaluate(config: EvalConfig, loaded: dict[str, Benchmark | EvaluationError], dry_run: bool) -> list[str]:
    """Evaluate; what had to be left out, or could not be loaded."""
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
    for name, benchmark in loaded.items():
        folder = Path(config.output_folder) / name
        try:
            with ranks.together():  # a file may be absent where one rank runs
                if isinstance(benchmark, EvaluationError):
                    raise benchmark
                if reason := why_not(tokenizer, benchmark.problems):
                    raise EvaluationError(f"tasks.{name} was left out: {reason}")
            assert not isinstance(benchmark, EvaluationError)
            arguments = (model, tokenizer, benchmark, sections[name], config.sandbox)
            if dry_run:
                print(run.preview(*arguments))
                continue
            with ProgressBars(shown=ranks.first) as progress:
                result = run.evaluate(*arguments, config.seed, folder, progress, config.model.path, ranks)
            if result is not None:
                print_result(result, folder)
        except Exception as error:
            if len(loaded) == 1 and isinstance(error, CodelmError | OSError):
                raise
            reason = _reason(error)
            left_out.append(reason if reason.startswith("tasks.") else f"tasks.{name} was left out: {reason}")
            _free_memory()
    return left_out


def _reason(error: Exception) -> str:
    """Why a benchmark cannot be evaluated; what is no failure of input or machine is raised."""
    import torch

    if isinstance(error, OSError):
        error = from_os_error(error)
    if isinstance(error, CodelmError):
        return str(error)
    # torch has a class of its own for this on accelerators only.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "there is not enough memory for it: lower its batch_size"
    raise error


def _free_memory() -> None:
    """Give the next benchmark what a failed one took."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


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


def check_machine(flags: set[str], sandbox: SandboxSection, tasks: TasksSection, left_out: Sequence[str] = ()) -> None:
    """Try the sandbox and the judge on programs whose outcome is known; exit code 1 if one is not as it must be.

    `left_out`: sentences for the end, beside those for benchmarks that cannot be loaded.
    """
    from progress import ProgressBars
    from report import print_sandbox, print_self_test

    from codelm.eval.benchmarks.registry import load_benchmark
    from codelm.eval.selftest import check_sandbox, run_self_test

    if "--sandbox-check" in flags:
        print_sandbox(*check_sandbox(sandbox))
    if "--self-test" in flags:
        # MultiPL-E has no references: programs of our own stand in, in every language unless a YAML says which.
        languages = tasks.multipl_e.languages if tasks.multipl_e else []
        named, absent = [], []
        for name, section in tasks.chosen().items():
            try:
                named += [] if name.startswith("multipl_e") else [load_benchmark(name, section)]
            except EvaluationError as error:
                absent.append(str(error))
        with ProgressBars() as progress:
            outcome = run_self_test(sandbox, named, languages, progress)
        outcome.left_out += [*absent, *left_out]
        print_self_test(outcome)
        sys.exit(1 if outcome.wrong else 0)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--self-test", action="store_true", help="judge programs whose verdict is known, stop")
    parser.add_argument("--sandbox-check", action="store_true", help="show what programs are kept from, stop")
