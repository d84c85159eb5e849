"""The tables that building a benchmark of a repository prints at its end."""

from rich.console import Console
from rich.table import Table

from codelm.eval.repository import exclusion
from codelm.eval.repository.gates import REASONS
from codelm.eval.repository.masks import KINDS
from codelm.eval.repository.settings import Built


def print_built(built: Built) -> None:
    """How many candidates each gate removed, what is held out, what should be mended, and where the files are."""
    console = Console()
    repository = built.repository
    changed = " with changes" if repository.dirty else ""
    about = [
        f"commit {repository.commit[:12]}{changed}" if repository.commit else "",
        repository.licence or "licence unknown",
    ]
    console.print(
        f"{repository.name}: {len(repository.files)} files, {', '.join(filter(None, about))}", highlight=False
    )
    if built.tests:
        console.print(f"tests: {_counted(built.tests)}", highlight=False, soft_wrap=True)
        console.print(
            f"functions: {built.candidates} candidates; not {_counted(built.functions)}",
            highlight=False,
            soft_wrap=True,
        )
    if built.gates:
        _print_gates(console, built)
    table = Table("held out", "files", "lines", "blocks")
    for language, counts in built.held_out.items():
        table.add_row(language, *(str(counts.get(key, 0)) for key in ("files", "lines", "blocks")))
    console.print(table)
    for trouble in built.troubles:
        console.print(f"note: {trouble}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"files: {built.folder}", highlight=False, soft_wrap=True)


def _print_gates(console: Console, built: Built) -> None:
    table = Table("masks", *KINDS)
    counts = [built.gates.get(kind, {}) for kind in KINDS]
    table.add_row("candidates", *(str(sum(count.values())) for count in counts))
    for reason in (*REASONS[1:], exclusion.REASON, REASONS[0]):
        if any(count.get(reason) for count in counts):
            title = reason if reason == REASONS[0] else f"- {reason}"
            table.add_row(title, *(str(count.get(reason, 0)) for count in counts))
    console.print(table)
    console.print(f"{built.runs} runs of pytest; judge: in_process; sandbox: {built.isolation}", highlight=False)


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items(), key=lambda item: -item[1]))
