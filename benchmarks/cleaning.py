"""Licences and decontamination: MB/s of one process on given files, agreement, recall and false alarms.

The peers of decontamination are the lower-cased substrings of StarCoder's way (every docstring and solution looked for
with `in`); those of licences are SPDX tags alone. The paths take turns; the fastest of `--repeat` counts.

    python benchmarks/cleaning.py FOLDER --megabytes 50 --benchmarks humaneval-js.jsonl.gz
"""

import argparse
import ast
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from codelm.config.cleaning import LicencesSection
from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import Problem, load_problems
from codelm.data.licences import detect as licences
from codelm.data.licences.detect import header_licence, is_kept, is_licence_file, licences_by_folder, repository_licence
from codelm.data.licences.metadata import is_metadata_file
from codelm.languages import language_of
from codelm.spdx.expressions import parse_licence

HEAD = 8192
PERMISSIVE_ONLY = LicencesSection(keep="permissive", unknown="drop")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--megabytes", type=float, default=50.0)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--benchmarks", nargs="*", default=[], help="JSONL files of problems, beside humaneval")
    args = parser.parse_args()
    texts = list(read(args.folder, args.megabytes * 1e6))
    size = sum(len(text) for _, text in texts) / 1e6
    heads = sum(min(HEAD, len(text)) for _, text in texts) / 1e6
    print(f"{len(texts)} files, {size:.1f} MB, {heads:.1f} MB of heads; CPU time of one process")

    problems = load_problems("humaneval")
    needles = Needles.build(problems)
    more = problems + [problem for path in args.benchmarks for problem in load_problems(path)]
    all_needles = Needles.build(more)
    substrings = [part.lower() for problem in problems for part in (problem.description().strip(), problem.solution)]
    tag = re.compile(r"SPDX-License-Identifier:\s*(\S+)")
    stages: dict[str, Callable[[str], Any]] = {
        "licence of the header": header_licence,
        "  SPDX tags alone": lambda text: tag.search(text, 0, HEAD),
        f"decontaminate, {len(problems)} problems": needles.find,
        f"decontaminate, {len(more)} problems": all_needles.find,
        f"  {len(substrings)} substrings with `in`": lambda text: in_loop(text, substrings),
    }
    seconds = fastest(stages, [text for _, text in texts], args.repeat)
    for name, time_taken in seconds.items():
        of_heads = f"{heads / time_taken:>9.1f} MB/s of heads" if "licence" in name or "SPDX" in name else ""
        print(f"{name:<40}{size / time_taken:>9.1f} MB/s{of_heads}")

    found = [(path, hits) for path, text in texts if (hits := all_needles.find(text))]
    print(f"\nfiles found by the needles of {len(more)} problems: {len(found)} of {len(texts)}")
    for path, hits in found[:10]:
        print(f"  {path}: {hits[0].benchmark} {hits[0].problem} {hits[0].kind}")
    print(f"by {len(substrings)} substrings: {sum(bool(in_loop(text, substrings)) for _, text in texts)}")
    print_recall(needles, problems, substrings)
    print_agreement(args.folder)


def read(folder: Path, limit: float) -> Iterator[tuple[Path, str]]:
    total = 0
    for path in sorted(folder.rglob("*")):
        if language_of(path.name) and path.is_file() and not path.is_symlink() and path.stat().st_size < 1_000_000:
            try:
                text = path.read_bytes().decode()
            except UnicodeDecodeError:
                continue
            total += len(text)
            if total > limit:
                return
            yield path, text


def fastest(stages: dict[str, Callable[[str], Any]], texts: list[str], repeat: int) -> dict[str, float]:
    best = dict.fromkeys(stages, float("inf"))
    for _ in range(repeat):
        for name, run in stages.items():
            licences._stated.cache_clear()  # what a first pass over the files costs
            started = time.process_time()
            for text in texts:
                run(text)
            best[name] = min(best[name], time.process_time() - started)
    return best


def in_loop(text: str, substrings: list[str]) -> list[str]:
    lower = text.lower()
    return [substring for substring in substrings if substring in lower]


def print_recall(needles: Needles, problems: list[Problem], substrings: list[str]) -> None:
    """Of every way to write HumanEval down, how many problems are found, by us and by substrings."""
    ways: dict[str, Callable[[Problem], str]] = {
        "prompt": lambda p: p.statement,
        "prompt and solution": lambda p: p.statement + p.solution,
        "… rewritten by ast.unparse": lambda p: ast.unparse(ast.parse(p.statement + p.solution)),
        "description in // comments": lambda p: re.sub(r"(?m)^\s*", "// ", p.description().strip()),
        "solution alone": lambda p: p.solution,
        "tests": lambda p: p.tests,
    }
    print(f"\n{'found of ' + str(len(problems)):<32}{'codelm':>8}{'substrings':>12}")
    for name, write in ways.items():
        ours = sum(any(hit.problem == p.id for hit in needles.find(write(p))) for p in problems)
        theirs = sum(bool(in_loop(write(p), substrings[2 * n : 2 * n + 2])) for n, p in enumerate(problems))
        print(f"{name:<32}{ours:>8}{theirs:>12}")


def print_agreement(folder: Path) -> None:
    """Licences as Debian labels their texts, and as packages name the texts that they come with."""
    debian = [(label, repository_licence({"LICENSE": text})) for label, text in debian_paragraphs()]
    for name, pairs in {"Debian's copyright files": debian, f"packages in {folder}": list(packages(folder))}.items():
        if not pairs:
            continue
        kept = Counter((is_kept(ours, PERMISSIVE_ONLY), is_kept(theirs, PERMISSIVE_ONLY)) for theirs, ours in pairs)
        same = sum(ids(ours) == ids(theirs) for theirs, ours in pairs)
        print(
            f"\n{name}: {len(pairs)} texts; same identifiers {same / len(pairs):.1%}; same permissive verdict "
            f"{(kept[True, True] + kept[False, False]) / len(pairs):.1%}; wrongly permissive {kept[True, False]}"
        )


def ids(expression: str | None) -> set[str]:
    return set(re.findall(r"[^\s()]+", expression or "")) - {"AND", "OR"}


def debian_paragraphs() -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for path in sorted(Path("/usr/share/doc").glob("*/copyright")):
        text = path.read_text(errors="replace")
        if text.startswith("Format:"):
            for match in re.finditer(r"^License:[ \t]*(.+)\n((?:[ \t]+.*\n?)+)", text, re.MULTILINE):
                label = parse_licence(match[1].replace("_", " "))
                if label and len(match[2]) > 150 and match[0] not in seen:
                    seen.add(match[0])
                    yield label, match[2]


def packages(folder: Path) -> Iterator[tuple[str, str]]:
    """The licence that metadata names and the one that texts state, of every folder that has both."""
    files = {
        path.relative_to(folder).as_posix(): path.read_text(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and is_licence_file(path.relative_to(folder).as_posix())
    }
    named = licences_by_folder({path: text for path, text in files.items() if is_metadata_file(path)})
    stated = licences_by_folder({path: text for path, text in files.items() if not is_metadata_file(path)})
    yield from ((named[place], stated[place]) for place in sorted(named.keys() & stated.keys()))


if __name__ == "__main__":
    main()
