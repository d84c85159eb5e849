"""What a finished benchmark asks: a gap in a file, what stands before and behind it, the tests that judge it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codelm.errors import EvaluationError
from codelm.eval.judge.verdict import Job
from codelm.eval.repository import manifest
from codelm.eval.repository.context import Snippet, commented
from codelm.eval.repository.copy import read_text
from codelm.eval.repository.outcome import JUDGE

ContextName = Literal["file", "repository"]


@dataclass(frozen=True)
class Item:
    """A gap.

    Attributes:
        kind: body, block or statement (judged by tests); line or block of a held-out file where `tests` is empty.
        language: a key of `codelm.languages.LANGUAGES`.
        prefix, suffix: the file's text before and behind the gap, to the character.
        gold: what stood there.
        tests: ids of the tests that judge it.
        reference_seconds: CPU time that the reference took at most.
        context: from the rest of the repository.
    """

    id: str
    kind: str
    language: str
    path: str
    prefix: str
    suffix: str
    gold: str
    tests: tuple[str, ...] = ()
    reference_seconds: float = 0.0
    context: tuple[Snippet, ...] = ()

    def prompt(self, context: ContextName = "file") -> str:
        """What a model that writes from left to right sees; the suffix is for those that fill in.

        `repository` puts the snippets above the file as comments. An item without any has the same prompt either way.
        """
        return (commented(self.context) if context == "repository" else "") + self.prefix

    def job(self, text: str) -> Job:
        """A judge's job: a text in the gap."""
        return Job(self.id, self.prefix + text + self.suffix, "", "", "", JUDGE, task_id=self.id)


@dataclass(frozen=True)
class RepositoryBenchmark:
    """A finished benchmark.

    Attributes:
        about: benchmark.json.
        executable: items judged by tests.
        textual: items of held-out files, judged by comparison.
        held_out: path, language and text of the held-out files, for bits per byte.
    """

    folder: Path
    about: dict[str, Any]
    executable: tuple[Item, ...]
    textual: tuple[Item, ...]
    held_out: tuple[tuple[str, str, str], ...]


def load(folder: Path, tree: Path | None) -> RepositoryBenchmark:
    """Read a benchmark.

    Args:
        tree: its archive, laid out (`copy.unpack`); None where it holds nothing that tests judge.

    Raises:
        EvaluationError: the folder holds no finished benchmark, or one that was changed.
    """
    about, rows = manifest.read(folder)
    executable = items_of_tests(folder, rows, tree) if tree is not None else []
    files = [row for row in rows if row["row"] == "file"]
    textual = [item for row in files for item in _of_file(row)]
    held_out = [(row["path"], row["language"], row["solution"]) for row in files]
    return RepositoryBenchmark(folder, about, tuple(executable), tuple(textual), tuple(held_out))


def items_of_tests(folder: Path, rows: Iterable[dict[str, Any]], tree: Path) -> list[Item]:
    """The items that tests judge, of a manifest's lines.

    Raises:
        EvaluationError: a file of theirs is not in the archive.
    """
    items = []
    for row in rows:
        if row["row"] == "function":
            text = read_text(tree / row["path"])
            if text is None:
                raise EvaluationError(f"{folder / manifest.ARCHIVE} lacks {row['path']}; build the benchmark again")
            items += _of_function(row, text)
    return items


def _of_function(row: dict[str, Any], text: str) -> list[Item]:
    lines = text.split("\n")
    context = tuple(Snippet(**snippet) for snippet in row["context"])
    items = []
    for mask in row["masks"]:
        prefix, gold, suffix = around(lines, mask["first"], mask["last"])
        seconds = mask["gates"]["cpu_seconds"]
        gap = (row["language"], row["path"], prefix, suffix, gold, tuple(mask["covering"]))
        items.append(Item(mask["id"], mask["kind"], *gap, seconds, context))
    return items


def _of_file(row: dict[str, Any]) -> list[Item]:
    lines = row["solution"].split("\n")
    return [
        Item(item["id"], item["kind"], row["language"], row["path"], prefix, suffix, gold)
        for item in row["items"]
        for prefix, gold, suffix in [around(lines, item["first"], item["last"])]
    ]


def around(lines: Sequence[str], first: int, last: int) -> tuple[str, str, str]:
    """Before, at and behind lines `first` to `last`; each line with its end."""
    whole = [f"{line}\n" for line in lines[:-1]] + [lines[-1]]
    return "".join(whole[: first - 1]), "".join(whole[first - 1 : last]), "".join(whole[last:])
