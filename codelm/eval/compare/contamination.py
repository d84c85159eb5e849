"""The contamination report of a training corpus: which evaluation problems data preparation found in it and dropped."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from codelm.data.contamination.sought import Sought, sha256_of
from codelm.data.manifest import MANIFEST_FILE, Manifest, load_manifest
from codelm.data.select import SPLITS, TRAIN
from codelm.eval.compare.blocks import Block, Heading, Table, Text
from codelm.eval.compare.changes import REPLAY
from codelm.eval.compare.comparison import Appendix
from codelm.eval.repository import manifest as repository_manifest

_MOST_SHOWN = 10
_PROBLEMS_OF = {"infilling": "humaneval"}
"""Benchmarks that ask about the problems of another one."""


def contamination(manifest: Manifest, benchmarks: Mapping[str, Mapping[str, Any]]) -> Appendix:
    """What the corpus' manifest says.

    Args:
        benchmarks: the settings of those that systems are compared on, by name; one that was not looked for is named.
            A replay set is not looked for: it is what was known before.
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
    missed: list[str] = []
    if looked_for:
        sought = manifest.sought if manifest.sought is not None else _by_name(looked_for)
        missed = [
            name
            for name, settings in benchmarks.items()
            if not (name.startswith(REPLAY) or _covers(sought, name, settings) or _is_held_out(manifest, settings))
        ]
        blocks += [Text(f"{text}.", "note") for one in sought if (text := one.warning()) is not None]
        for name in [name for name in missed if _was_rebuilt(sought, benchmarks[name])]:
            blocks.append(Text(f"{name} is not the benchmark that was looked for: it was built anew since.", "note"))
    if missed:
        blocks.append(Text(f"Not looked for: {', '.join(missed)}.", "note"))
        sentence = f"{', '.join(missed)}: these problems were not looked for in the corpus {manifest.run_name}."
    facts: dict[str, Any] = {
        "corpus": manifest.run_name,
        "manifest": manifest.hash,
        "looked_for": looked_for,
        "not_looked_for": missed,
        "found": {
            name: {key: entry[key] for key in ("problems_found", "files")}
            for name, entry in manifest.contamination.items()
        },
    }
    return Appendix("contamination", tuple(blocks), facts, sentence)


def _by_name(looked_for: Iterable[str]) -> tuple[Sought, ...]:
    """What an older manifest tells: names. What a file held is not known, but for the name that it gives."""
    return tuple(
        Sought(given, "", {Path(given).name.removesuffix(".gz").rpartition(".")[0] or given: 0}, ())
        for given in looked_for
    )


def _covers(sought: Iterable[Sought], name: str, settings: Mapping[str, Any]) -> bool:
    """Whether a benchmark's problems are among those looked for: of a repository by its file, of others by name."""
    file = _manifest_of(settings)
    if file is not None:
        # An older corpus does not say which file it was; that one of this name was given is all there is to go by.
        return any(one.sha256 == sha256_of(file) if one.sha256 else Path(one.given).name == file.name for one in sought)
    if "variant" in settings and "languages" in settings:  # MultiPL-E translates other benchmarks' problems
        wanted = [f"{settings['variant']}-{language}" for language in settings["languages"]]
    else:
        wanted = [_PROBLEMS_OF.get(name, name)]
    known = tuple(_plain(one) for entry in sought for one in entry.problems)
    return all(_plain(one).startswith(known) for one in wanted)


def _is_held_out(manifest: Manifest, settings: Mapping[str, Any]) -> bool:
    """Whether a benchmark is of a split of the corpus itself, which training does not read."""
    path = settings.get("path")
    if not isinstance(path, str) or not (Path(path).expanduser() / MANIFEST_FILE).is_file():
        return False
    return settings.get("split") != SPLITS[TRAIN] and load_manifest(Path(path).expanduser()).hash == manifest.hash


def _was_rebuilt(sought: Iterable[Sought], settings: Mapping[str, Any]) -> bool:
    """Whether what was looked for is another state of the same repository's benchmark."""
    file = _manifest_of(settings)
    if file is None:
        return False
    with file.open(encoding="utf-8") as lines:
        repository = json.loads(next(lines, "{}")).get("benchmark")
    return any(repository in one.problems for one in sought)


def _manifest_of(settings: Mapping[str, Any]) -> Path | None:
    """The manifest of the repository benchmark that was evaluated, where it still is."""
    path = settings.get("path")
    file = Path(path).expanduser() / repository_manifest.MANIFEST if isinstance(path, str) else None
    return file if file is not None and file.is_file() else None


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")
