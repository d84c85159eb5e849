"""What eval/compare.py measures by itself: replayed files, and what systems say of their training corpus by heart."""

import argparse
from dataclasses import dataclass
from pathlib import Path

from progress import ProgressBars

from codelm.config.eval import EvalConfig, EvalModelSection
from codelm.errors import EvaluationError
from codelm.eval.compare.changes import REPLAY
from codelm.eval.compare.comparable import check_weights
from codelm.eval.compare.comparison import Appendix
from codelm.eval.compare.contamination import contamination
from codelm.eval.compare.folders import System, read_system
from codelm.eval.memorisation.canaries import Canary, load
from codelm.eval.memorisation.passages import CorpusTexts, planted
from codelm.eval.memorisation.report import report


@dataclass(frozen=True)
class Audited:
    """What an audit reads, known to be there before anything is evaluated."""

    corpus: CorpusTexts
    canaries: list[Canary]


def open_audit(arguments: argparse.Namespace) -> Audited | None:
    """The corpus and the canaries that the command line names; None where it names none.

    Raises:
        EvaluationError, DataError: they are absent or damaged.
    """
    if arguments.audit is None:
        if arguments.canaries is not None:
            raise EvaluationError("--canaries needs --audit CORPUS, the prepared corpus that they were planted in")
        return None
    return Audited(CorpusTexts(arguments.audit), load(arguments.canaries) if arguments.canaries else [])


def audit_systems(systems: list[System], audited: Audited, arguments: argparse.Namespace) -> list[Appendix]:
    """Audit each system's checkpoint with the corpus, where that is not done yet; and what the corpus says of itself.

    Raises:
        EvaluationError: a system's evaluation does not say which checkpoint it was of.
    """
    from evaluating import load_model

    from codelm.eval.memorisation.audit import AuditOptions, audit
    from codelm.eval.memorisation.extraction import Lengths
    from codelm.eval.run import weights_hash

    lengths = Lengths(arguments.audit_prompt, tuple(sorted(arguments.audit_lengths)))
    options = AuditOptions(lengths, arguments.audit_files)
    folders = {}
    for system in systems:
        checkpoint, folders[system.name] = checkpoint_of(system), arguments.output / "audit" / system.name
        model, tokenizer = load_model(EvalModelSection(path=checkpoint, device=arguments.device))
        check_weights(system, str(next(model.parameters()).dtype).removeprefix("torch."), weights_hash(model))
        with ProgressBars() as progress:
            whole = (audited.corpus, audited.canaries, folders[system.name], checkpoint, options, progress)
            audit(model, tokenizer, *whole)
    where = planted(audited.corpus, audited.canaries) if audited.canaries else None
    benchmarks = {name: one.settings for name, one in systems[0].benchmarks.items()}
    return [report(folders, where), contamination(audited.corpus.manifest, benchmarks)]


def replay(systems: list[System], arguments: argparse.Namespace) -> None:
    """Measure each system's bits per byte on the files or shards that `--replay` names, as one benchmark more."""
    from evaluating import evaluate

    for system in systems:
        folder = arguments.output / REPLAY / system.name
        task = {"path": arguments.replay, "gaps": [], "parse": False, "files": arguments.replay_files}
        config = EvalConfig.model_validate({
            "run_name": REPLAY,
            "model": {"path": checkpoint_of(system), "device": arguments.device},
            "tasks": {"held_out": {REPLAY: task}},
            "output_folder": str(folder),
        })  # fmt: skip
        evaluate(config, dry_run=False)
        system.benchmarks.update(read_system(system.name, folder).benchmarks)


def checkpoint_of(system: System) -> str:
    """The one checkpoint behind an evaluation."""
    if len(system.checkpoints) != 1:
        told = " and ".join(system.checkpoints) or "no checkpoint"
        raise EvaluationError(
            f"the evaluation of {system.name} names {told}, so there is no model to audit or replay; evaluate one"
        )
    return system.checkpoints[0]


def lengths_of(text: str) -> list[int]:
    """Numbers with commas between them, each above 0."""
    numbers = [int(part) for part in text.split(",")]
    if not numbers or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a list of numbers above 0")
    return numbers


def add_flags(parser: argparse.ArgumentParser) -> None:
    """What an audit needs to know."""
    add = parser.add_argument_group("forgetting and memorisation").add_argument
    add("--replay", metavar="FOLDER", help="files, or a prepared corpus, that the first system knew")
    add("--replay-files", type=int, default=50, help="of each language at most (%(default)s)")
    add("--audit", metavar="CORPUS", help="the prepared corpus that was trained on (output_folder of data_prep)")
    add("--canaries", type=Path, metavar="DIR", help="of eval/canaries.py, planted in that corpus")
    add("--audit-files", type=int, default=200, help="drawn from training, and as many held out (%(default)s)")
    add("--audit-prompt", type=int, default=50, help="tokens of a file that are shown (%(default)s)")
    add("--audit-lengths", type=lengths_of, default=[10, 25, 50], help="following tokens asked for (10,25,50)")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto")
