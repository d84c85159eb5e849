"""What eval/compare.py measures by itself: what the systems say of their training corpus by heart."""

import argparse
from pathlib import Path

from progress import ProgressBars

from codelm.config.eval import EvalModelSection
from codelm.errors import EvaluationError
from codelm.eval.compare.comparison import Appendix
from codelm.eval.compare.contamination import contamination
from codelm.eval.compare.folders import System
from codelm.eval.memorisation import canaries as planted_secrets
from codelm.eval.memorisation.passages import CorpusTexts, planted
from codelm.eval.memorisation.report import report


def audit_systems(systems: list[System], arguments: argparse.Namespace) -> list[Appendix]:
    """Audit each system's checkpoint with the corpus, where that is not done yet; and what the corpus says of itself.

    Raises:
        EvaluationError: a system's evaluation does not say which checkpoint it was of.
    """
    from main import load_model

    from codelm.eval.memorisation.audit import AuditOptions, audit
    from codelm.eval.memorisation.extraction import Lengths

    corpus = CorpusTexts(arguments.audit)
    canaries = planted_secrets.load(arguments.canaries) if arguments.canaries else []
    lengths = Lengths(arguments.audit_prompt, tuple(sorted(arguments.audit_lengths)))
    options = AuditOptions(lengths, arguments.audit_files)
    checkpoints = {system.name: checkpoint_of(system) for system in systems}
    folders = {name: arguments.output / "audit" / name for name in checkpoints}
    for name, checkpoint in checkpoints.items():
        model, tokenizer = load_model(EvalModelSection(path=checkpoint, device=arguments.device))
        with ProgressBars() as progress:
            audit(model, tokenizer, corpus, canaries, folders[name], checkpoint, options, progress)
    where = planted(corpus, canaries) if canaries else None
    return [report(folders, where), contamination(corpus.manifest, list(systems[0].benchmarks))]


def checkpoint_of(system: System) -> str:
    """The one checkpoint behind an evaluation."""
    if len(system.checkpoints) != 1:
        told = " and ".join(system.checkpoints) or "no checkpoint"
        raise EvaluationError(f"--audit: the evaluation of {system.name} names {told}; evaluate one checkpoint again")
    return system.checkpoints[0]


def lengths_of(text: str) -> list[int]:
    """Numbers with commas between them, each above 0."""
    numbers = [int(part) for part in text.split(",")]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a list of numbers above 0")
    return numbers


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What an audit needs to know."""
    add = parser.add_argument_group("audit of memorisation").add_argument
    add("--audit", metavar="CORPUS", help="the prepared corpus that was trained on (output_folder of data_prep)")
    add("--canaries", type=Path, metavar="DIR", help="of eval/canaries.py, planted in that corpus")
    add("--audit-files", type=int, default=200, help="drawn from training, and as many held out (%(default)s)")
    add("--audit-prompt", type=int, default=50, help="tokens of a file that are shown (%(default)s)")
    add("--audit-lengths", type=lengths_of, default=[10, 25, 50], help="following tokens asked for (10,25,50)")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto")
