"""The contamination report of a training corpus: which evaluation problems data preparation found in it and dropped."""

from collections.abc import Collection
from typing import Any

from codelm.data.manifest import Manifest
from codelm.eval.compare.blocks import Block, Heading, Table, Text
from codelm.eval.compare.comparison import Appendix

_MOST_SHOWN = 10


def contamination(manifest: Manifest, benchmarks: Collection[str]) -> Appendix:
    """What the corpus' manifest says.

    Args:
        benchmarks: the names of those that systems are compared on; one that was not looked for is named.
    """
    asked = manifest.settings.get("decontamination") or {}
    looked_for = [str(one) for one in asked.get("benchmarks") or []]
    blocks: list[Block] = [Heading("Was it trained on the problems?")]
    if not looked_for:
        told = f"No evaluation problems were looked for in the corpus {manifest.run_name}: scores may owe to them."
        sentence = told
    else:
        told = (
            f"Files of the corpus {manifest.run_name} that hold problems of {', '.join(looked_for)} were dropped before"
            " anything was trained on; they are found however they are formatted."
        )
        sentence = ""
    blocks.append(Text(told, "note"))
    rows = []
    for name, entry in sorted(manifest.contamination.items()):
        rows.append((name, f"{entry['problems_found']:,}", f"{entry['files']:,}"))
    if rows:
        blocks.append(Table(("benchmark", "problems found", "files dropped"), tuple(rows)))
        found = [
            (problem, ", ".join(sorted(files)[:2]) + (f" and {len(files) - 2} more" if len(files) > 2 else ""))
            for entry in manifest.contamination.values()
            for problem, files in sorted(entry["problems"].items())
        ]
        blocks.append(Table(("problem", "dropped"), tuple(found[:_MOST_SHOWN])))
    elif looked_for:
        blocks.append(Text("No file holds one of them."))
    missed = [name for name in benchmarks if not any(_covers(one, name) for one in looked_for)] if looked_for else []
    if missed:
        blocks.append(Text(f"Not looked for by that name: {', '.join(missed)}.", "note"))
    facts: dict[str, Any] = {
        "corpus": manifest.run_name,
        "manifest": manifest.hash,
        "looked_for": looked_for,
        "found": {
            name: {key: entry[key] for key in ("problems_found", "files")}
            for name, entry in manifest.contamination.items()
        },
    }
    return Appendix("contamination", tuple(blocks), facts, sentence)


def _covers(looked_for: str, benchmark: str) -> bool:
    """Whether a benchmark's problems are among those looked for: a file of problems may hold any."""
    return "/" in looked_for or looked_for.endswith((".jsonl", ".gz", ".json")) or benchmark.startswith(looked_for)
