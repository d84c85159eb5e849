"""What `compare.py` does once everything is imported: evaluate what is not yet, compare, and say what came out."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from auditing import add_flags, audit_systems, open_audit, replay

from codelm.config.evaluation.tasks import MultiplESection, TaskSection, TasksSection
from codelm.config.load import load_config
from codelm.config.suggest import closest
from codelm.console import setup_logging
from codelm.errors import EvaluationError
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.compare.changes import OWN
from codelm.eval.compare.comparable import check_comparable
from codelm.eval.compare.comparison import compare, write
from codelm.eval.compare.folders import is_results_folder, names_of, read_system
from codelm.eval.compare.story import tell, title_of
from codelm.startup import many_imports

if TYPE_CHECKING:
    from codelm.config.eval import EvalConfig

OUTPUT = "runs/compared"
YAML = "yamls/eval/repository.yaml"


def run(description: str | None) -> None:
    arguments = parse(description)
    setup_logging()
    named, audited = names_of(arguments.systems), open_audit(arguments)
    wanted = _words(arguments.benchmarks)
    checkpoints = {name: path for name, path in named if not is_results_folder(Path(path))}
    configs = check(checkpoints, arguments)
    left_out = [sentence for name, config in configs.items() for sentence in evaluate(name, config)]
    folders = {name: arguments.output / name if name in checkpoints else Path(path) for name, path in named}
    systems = [read_system(name, folder, wanted, arguments.profile) for name, folder in folders.items()]
    check_comparable(systems, _words(arguments.allow))
    if arguments.replay:
        replay(systems, arguments)
    comparison = compare(systems, _words(arguments.own) or OWN, _words(arguments.allow), arguments.examples)
    if audited is not None:
        comparison.appendices.extend(audit_systems(systems, audited, arguments))
    page = write(comparison, arguments.output, title_of(comparison), tell(comparison))
    for sentence in comparison.verdicts():
        print(sentence)
    print(f"page: {page}")
    if left_out:
        raise EvaluationError("; ".join(left_out))


def check(checkpoints: dict[str, str], arguments: argparse.Namespace) -> dict[str, EvalConfig]:
    """How each checkpoint is evaluated; refused is what would fail after hours, when it is the last one's turn."""
    if not checkpoints:
        return {}
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise EvaluationError(
            "comparing is for one process: evaluate the checkpoints with `composer eval/main.py …` and compare their"
            " output folders"
        )
    configs = {name: config_of(path, arguments.output / name, arguments) for name, path in checkpoints.items()}
    if arguments.benchmarks:
        # What was asked for by name is not left out of a comparison, as it is out of an evaluation of many.
        for name, section in next(iter(configs.values())).tasks.chosen().items():
            load_benchmark(name, section)

    # torch and transformers take seconds to import: only once the words of the command line are known to be good.
    with many_imports():
        from codelm.model.pretrained import checkpoint_folder

    for path in checkpoints.values():
        checkpoint_folder(path)
    return configs


def evaluate(name: str, config: EvalConfig) -> list[str]:
    """Evaluate a checkpoint, where that is not done yet; what had to be left out."""
    from evaluating import evaluate as evaluate_checkpoint

    try:
        evaluate_checkpoint(config, dry_run=False)
    except EvaluationError as error:
        if not is_results_folder(Path(config.output_folder)):
            raise
        return [f"{name}: {error}"]
    return []


def config_of(checkpoint: str, folder: Path, arguments: argparse.Namespace) -> EvalConfig:
    """The YAML with this checkpoint, this folder, and of its tasks those that are wanted."""
    own = [f"model.path={checkpoint}", f"output_folder={folder}"]
    config: EvalConfig = load_config("eval", arguments.yaml, [*arguments.set, *own])
    chosen = config.tasks.chosen()
    wanted = _words(arguments.benchmarks)
    begun = {begin: {name for name, task in chosen.items() if _begins(name, task, begin)} for begin in wanted}
    for begin, names in begun.items():
        if not names:
            meant = closest(begin, chosen)
            hint = f"did you mean {meant}?" if meant else f"it has {', '.join(chosen)}"
            raise EvaluationError(f"--benchmarks {begin}: {arguments.yaml} has no such benchmark; {hint}")
    if not wanted:
        return config
    return config.model_copy(update={"tasks": only(config.tasks, set[str]().union(*begun.values()))})


def _begins(name: str, task: TaskSection, begin: str) -> bool:
    return name.startswith(begin) or (task.group or "").startswith(begin)


def only(tasks: TasksSection, kept: set[str]) -> TasksSection:
    """The tasks of these names alone."""
    changed: dict[str, object] = {}
    for name in type(tasks).model_fields:
        value = getattr(tasks, name)
        if isinstance(value, dict):
            changed[name] = {key: section for key, section in value.items() if key in kept}
        elif isinstance(value, MultiplESection):
            languages = [language for language in value.languages if f"{name}-{language}" in kept]
            changed[name] = value.model_copy(update={"languages": languages}) if languages else None
        elif name not in kept:
            changed[name] = None
    return tasks.model_copy(update=changed)


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("systems", nargs="+", metavar="[NAME=]PATH", help="output folders of eval/main.py, or checkpoints; the others"
        " are compared with the first")  # fmt: skip
    add("-o", "--output", default=OUTPUT, type=Path, help="a folder for the page, and for evaluations of checkpoints"
        " (%(default)s)")  # fmt: skip
    add("--benchmarks", default="", help="only these, by how their names begin, such as repo,humaneval")
    add("--own", default="", help=f"benchmarks that are your own code, by how they begin ({','.join(OWN)})")
    add("--profile", help="score with this post-processing profile, not with the one used last")
    add("--allow", default="", help="settings that may differ, such as max_new_tokens")
    add("--examples", type=int, default=5, help="problems gained and lost that are shown, of each (%(default)s)")
    add("--yaml", default=YAML, help="what checkpoints are evaluated on (%(default)s)")
    add("--set", action="append", default=[], metavar="key=value", help="laid over the YAML; may be repeated")
    add_flags(parser)
    arguments = parser.parse_args()
    if len(arguments.systems) < 2:
        raise EvaluationError(
            "name at least two evaluations or checkpoints: the first is what others are compared with"
        )
    return arguments


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
