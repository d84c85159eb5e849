"""The tables that the evaluation recipe prints at its end."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from codelm.eval.report import kind_rows, score_rows
from codelm.eval.sandbox.confine import Isolation
from codelm.eval.scoring import Result
from codelm.eval.selftest import Attempt, SelfTest


def print_result(result: Result, folder: Path) -> None:
    """Scores with their errors, the verdicts behind them, and where the files are."""
    table = Table(result.title, "value", "± standard error", "95 % interval", "n")
    for row in (*score_rows(result), *kind_rows(result)):
        table.add_row(*row)
    console = Console()
    console.print(table)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(result.kinds.items(), key=lambda item: -item[1]))
    judges = ", ".join(sorted(result.judges))
    if kinds:
        sandbox = result.isolation.describe()
        console.print(f"verdicts: {kinds}; judge: {judges}; sandbox: {sandbox}", highlight=False, soft_wrap=True)
    profiles = {name: scores for name, scores in (result.profiles or {}).items() if "pass@1" in scores}
    if len(profiles) > 1:
        spread = ", ".join(f"{name} {scores['pass@1']:.4f}" for name, scores in profiles.items())
        console.print(f"pass@1 by post-processing: {spread}", highlight=False, soft_wrap=True)
    if result.prompts_shortened:
        console.print(f"{result.prompts_shortened} prompts were cut to fit the model's length")
    if result.kinds.get("unjudged"):
        console.print("the judge broke on some completions: run the same command again to judge them")
    console.print(f"files: {folder}", highlight=False, soft_wrap=True)


def print_self_test(outcome: SelfTest) -> None:
    """Counts, and every verdict that is not as it must be."""
    table = Table("judged", "must", "passed", "of")
    for group in outcome.groups:
        table.add_row(group.title, group.must, str(group.passed), str(len(group.verdicts)))
    console = Console()
    console.print(table)
    console.print(f"sandbox: {outcome.isolation.describe()}", highlight=False)
    for sentence in outcome.left_out:
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    for verdict in outcome.wrong:
        console.print(f"WRONG: {verdict.id}: {verdict.kind} ({verdict.detail})", highlight=False, markup=False)


def print_sandbox(isolation: Isolation, attempts: list[Attempt]) -> None:
    """The level, why it is no higher, and what programs could do."""
    console = Console()
    console.print(f"level: {isolation.describe()}", highlight=False)
    for note in isolation.notes:
        console.print(f"  {note}", highlight=False)
    table = Table("a program tried to", "outcome", "by")
    for attempt in attempts:
        table.add_row(attempt.what, "denied" if attempt.denied else "ALLOWED", attempt.detail.split(": ")[0])
    console.print(table)
