"""Judge a checkpoint as a YAML says: `python eval/main.py yamls/quickstart/eval.yaml [key=value …]` (eval/README.md).

The same command again goes on where it stopped. Without a YAML: `--self-test` and `--sandbox-check`.
"""

import argparse
import os
import sys
from pathlib import Path

from codelm.config.cli import parse_command_line
from codelm.config.eval import EvalConfig, SandboxSection
from codelm.console import setup_logging
from codelm.errors import EvaluationError, exit_on_error


@exit_on_error
def main() -> None:
    flags = {"--self-test", "--sandbox-check"}.intersection(sys.argv[1:])
    if flags and not any(argument.endswith((".yaml", ".yml")) or argument == "--help" for argument in sys.argv[1:]):
        check_machine(flags, SandboxSection())
        return
    command = parse_command_line("eval", extra=_add_flags)
    assert isinstance(command.config, EvalConfig)
    setup_logging()
    if flags:
        check_machine(flags, command.config.sandbox)
    else:
        evaluate(command.config, command.dry_run)


def evaluate(config: EvalConfig, dry_run: bool) -> None:
    """Evaluate the checkpoint, or say what an evaluation would do."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise EvaluationError("an evaluation runs in one process: start it with python, not with composer")
    section = config.tasks.humaneval
    assert section is not None

    # torch and transformers take seconds to import: only once the configuration is known to be good.
    import torch
    from progress import ProgressBars
    from report import print_result

    from codelm.eval.run import evaluate_humaneval, preview_humaneval
    from codelm.model.pretrained import load

    device = config.model.device.replace("gpu", "cuda")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise EvaluationError("model.device is gpu, and torch sees none: set it to cpu or auto")
    dtype = {"auto": torch.bfloat16 if device == "cuda" else torch.float32}.get(config.model.dtype)
    model, tokenizer = load(config.model.path, dtype or getattr(torch, config.model.dtype), device)
    if dry_run:
        print(preview_humaneval(model, tokenizer, section, config.sandbox))
        return
    folder = Path(config.output_folder) / "humaneval"
    with ProgressBars() as progress:
        result = evaluate_humaneval(
            model, tokenizer, section, config.sandbox, config.seed, folder, progress, config.model.path
        )
    print_result(result, folder)


def check_machine(flags: set[str], sandbox: SandboxSection) -> None:
    """Try the sandbox and the judge on programs whose outcome is known; exit code 1 if one is not as it must be."""
    from progress import ProgressBars
    from report import print_sandbox, print_self_test

    from codelm.eval.selftest import check_sandbox, run_self_test

    if "--sandbox-check" in flags:
        print_sandbox(*check_sandbox(sandbox))
    if "--self-test" in flags:
        with ProgressBars() as progress:
            outcome = run_self_test(sandbox, progress)
        print_self_test(outcome)
        sys.exit(1 if outcome.wrong else 0)


def _add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--self-test", action="store_true", help="judge programs whose verdict is known, stop; no YAML")
    parser.add_argument("--sandbox-check", action="store_true", help="show what programs are kept from, stop; no YAML")


if __name__ == "__main__":
    main()
