"""A whole comparison: what is compared, what changed, examples; and the files that it leaves."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codelm.eval import results
from codelm.eval.compare.blocks import Block, to_html, to_markdown
from codelm.eval.compare.changes import OWN, Change, find_changes, find_slices
from codelm.eval.compare.comparable import check_comparable, shared_benchmarks
from codelm.eval.compare.examples import Example, find_examples
from codelm.eval.compare.folders import System
from codelm.eval.compare.words import verdict_sentence

PAGE, MARKDOWN, JSON = "compare.html", "compare.md", "compare.json"


@dataclass(frozen=True)
class Appendix:
    """What else is known of the systems (an audit, a contamination report), for the page and the JSON.

    Attributes:
        key: in compare.json.
        sentence: what of it belongs on top; may be empty.
    """

    key: str
    blocks: tuple[Block, ...]
    facts: Any
    sentence: str = ""


@dataclass(frozen=True)
class Comparison:
    """Systems against the first of them.

    Attributes:
        notes: what differs between the evaluations, and was found not to matter.
        examples: by system and benchmark.
        moved: by system and benchmark, the ids of the problems `gained` and `lost`.
        titles: of the benchmarks.
        slices: changes by kind of gap.
    """

    systems: tuple[System, ...]
    notes: list[str]
    changes: list[Change]
    examples: dict[str, dict[str, list[Example]]]
    moved: dict[str, dict[str, dict[str, list[str]]]]
    titles: dict[str, str]
    slices: list[Change] = field(default_factory=list)
    appendices: list[Appendix] = field(default_factory=list)

    def verdicts(self) -> list[str]:
        """A sentence for each system but the first, then what the appendices have to say."""
        others = [system.name for system in self.systems[1:]]
        sentences = [
            verdict_sentence([change for change in self.changes if change.system == name], name if others[1:] else None)
            for name in others
        ]
        return [*sentences, *(appendix.sentence for appendix in self.appendices if appendix.sentence)]

    def to_dict(self) -> dict[str, Any]:
        """The content of compare.json."""
        return {
            "verdicts": self.verdicts(),
            "systems": {
                system.name: {
                    "checkpoints": system.checkpoints,
                    "folders": {name: str(one.folder) for name, one in system.benchmarks.items()},
                }
                for system in self.systems
            },
            "notes": self.notes,
            "changes": [change.to_dict() for change in self.changes],
            "slices": [change.to_dict() for change in self.slices],
            "moved": self.moved,
            **{appendix.key: appendix.facts for appendix in self.appendices},
        }


def compare(
    systems: Sequence[System], own: Collection[str] = OWN, allowed: Collection[str] = (), examples: int = 5
) -> Comparison:
    """Compare systems with the first of them.

    Args:
        own: how the names of benchmarks begin that are the user's own code.
        allowed: settings that may differ.
        examples: of problems gained, and of problems lost, on each benchmark.

    Raises:
        EvaluationError: their evaluations cannot be compared.
    """
    notes = check_comparable([*systems], allowed)
    first, shared = systems[0], shared_benchmarks([*systems])
    shown: dict[str, dict[str, list[Example]]] = {}
    moved: dict[str, dict[str, dict[str, list[str]]]] = {}
    for system in systems[1:]:
        pairs = {name: (first.benchmarks[name], system.benchmarks[name]) for name in shared}
        found = {name: find_examples(*pair, most=examples) for name, pair in pairs.items()}
        shown[system.name] = {name: one for name, (one, _) in found.items()}
        moved[system.name] = {name: ids for name, (_, ids) in found.items()}
    for system in systems:
        for name in shared:
            if broken := system.benchmarks[name].unjudged():
                notes.append(f"{name}: the judge broke on {broken} completions of {system.name}, which count as failed")
    titles = {name: first.benchmarks[name].title for name in shared}
    changes, slices = find_changes(systems, own), find_slices(systems, own)
    notes += [
        f"{change.benchmark}: {change.metric}: {change.left_out} problems are left out, which only one system has"
        for change in changes
        if change.left_out
    ]
    return Comparison(tuple(systems), notes, changes, shown, moved, titles, slices)


def write(comparison: Comparison, folder: Path, title: str, blocks: Sequence[Block]) -> Path:
    """Write the three files; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    results.write_json(folder / JSON, comparison.to_dict())
    results.write_text(folder / MARKDOWN, to_markdown(title, blocks))
    results.write_text(folder / PAGE, to_html(title, blocks).decode("utf-8"))
    return folder / PAGE
