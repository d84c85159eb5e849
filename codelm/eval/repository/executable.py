"""The part of a benchmark that tests judge: from the repository's suite to functions whose masks pass the gates."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from codelm.eval import results
from codelm.eval.repository import collect, manifest
from codelm.eval.repository.candidates import Function, Source, find_functions, parse
from codelm.eval.repository.collect import Progress, Suite
from codelm.eval.repository.context import Library
from codelm.eval.repository.copy import Repository, compile_files, is_test_path, read_text
from codelm.eval.repository.environment import Environment
from codelm.eval.repository.gates import Gated, gate
from codelm.eval.repository.masks import Mask, find_masks
from codelm.eval.repository.options import repository_options
from codelm.eval.repository.runner import Runner
from codelm.eval.repository.settings import BuildSettings, Built
from codelm.eval.repository.worker import Setup
from codelm.eval.sandbox.confine import LEVELS, Isolation

_SHARED = "left for training by --share"
_UNREADABLE = "in a file that this Python cannot read"
_TRACED, _REPEATED, _GATED = "traced.jsonl", "repeated.jsonl", "gated.jsonl"
_TIMES = "times.jsonl"


def executable_rows(
    repository: Repository,
    environment: Environment,
    settings: BuildSettings,
    workers: int,
    work: Path,
    built: Built,
    progress: Progress,
) -> list[dict[str, Any]]:
    """The manifest's lines about functions that tests can judge; counts and troubles go into `built`."""
    compile_files(repository.root, environment.python)
    roots = repository.import_roots()
    setup = Setup(
        environment=environment,
        pristine=repository.root,
        origin=repository.origin,
        roots=tuple(roots),
        own=frozenset(repository.top_level_names()),
        addopts=repository_options(repository.root),
    )
    with _timed(work, "tests", built):
        suite, setup = _collect(setup, settings, workers, work, built, progress)
    built.tests = suite.counts()
    built.addopts, built.modules = setup.addopts, setup.preload
    built.troubles += suite.trouble
    sources = [source for path in repository.python_files() if (source := _source(repository, path, built)) is not None]
    masks = _masks(sources, suite, settings, built)
    with _timed(work, "gates", built):
        gated = _gate(setup, masks, settings, workers, work, built, progress) if masks else {}
    return _rows(repository, masks, gated, Library(sources, roots))


@contextmanager
def _timed(work: Path, stage: str, built: Built) -> Iterator[None]:
    """Add up the seconds of a stage over all starts."""
    started = time.monotonic()
    try:
        yield
    finally:
        results.append_line(work / _TIMES, {"stage": stage, "seconds": round(time.monotonic() - started, 1)})
        rows = results.read_lines(work / _TIMES)
        built.seconds[stage] = round(sum(row["seconds"] for row in rows if row["stage"] == stage), 1)


def _collect(
    setup: Setup, settings: BuildSettings, workers: int, work: Path, built: Built, progress: Progress
) -> tuple[Suite, Setup]:
    """Find out about the tests; the setup that comes back imports their dependencies once."""
    suite = Suite()
    with Runner(setup, workers, settings.min_level) as runner:
        built.isolation = runner.isolation.describe()
        built.troubles += [said for said in open_doors(runner.isolation) if said not in built.troubles]
        ids, usable = collect.list_tests(runner, suite)
        if usable:
            traced = collect.run_suite(runner, ids, settings.test_seconds, work / _TRACED, progress)
    if not usable:
        built.troubles.append(f"pytest refuses the repository's own options ({setup.addopts}): they were left out")
        return _collect(replace(setup, addopts=""), settings, workers, work, built, progress)
    setup = replace(setup, preload=tuple(traced.get("", ())), hash_seed=1)
    passed = [id for id in ids if traced.get(id, {}).get("outcome") == "passed"]
    flaky: set[str] = set()
    if passed and settings.repeats > 1:
        with Runner(setup, workers, settings.min_level) as runner:
            times = settings.repeats - 1
            flaky = collect.repeat_suite(runner, passed, times, settings.test_seconds, work / _REPEATED, progress)
    collect.summarise(suite, traced, flaky)
    suite.trouble += list(collect.troubles(suite, len(ids), set(setup.own)))
    return suite, replace(setup, hash_seed=0)


def open_doors(isolation: Isolation) -> Iterator[str]:
    """A sentence where tests, and later completions, could do more than this machine should let them."""
    if isolation.level != LEVELS[-1]:
        network = "" if isolation.seccomp else "they can use the network, and "
        yield (
            f"tests run in the sandbox `{isolation.describe()}` ({'; '.join(isolation.notes)}): {network}they can reach"
            f" what their user may; `--min-level {LEVELS[-1]}` refuses to build here"
        )


def _source(repository: Repository, path: str, built: Built) -> Source | None:
    text = read_text(repository.root / path)
    source = parse(path, text) if text is not None else None
    if source is None and not is_test_path(path):
        built.functions[_UNREADABLE] = built.functions.get(_UNREADABLE, 0) + 1
    return source


def _masks(sources: list[Source], suite: Suite, settings: BuildSettings, built: Built) -> list[Mask]:
    refused: Counter[str] = Counter(built.functions)
    masks: list[Mask] = []
    for source in sources:
        if is_test_path(source.path):
            continue
        covered = suite.covered.get(source.path, {})
        functions = list(find_functions(source, covered, settings.min_lines, settings.max_lines, refused))
        if functions and not _drawn(source.path, settings):
            refused[_SHARED] += len(functions)
            continue
        names = Counter(function.name for function in functions)
        for function in functions:
            if names[function.name] > 1:
                refused["defined more than once"] += 1
                continue
            built.candidates += 1
            counts = settings.blocks, settings.statements, settings.most_tests, settings.seed
            masks += find_masks(function, covered, suite.seconds, *counts)
    built.functions = dict(refused)
    if refused[_SHARED] and not masks:
        built.troubles.append(f"--share {settings.share:g} drew none of the files with candidates: raise it")
    return masks


def _drawn(path: str, settings: BuildSettings) -> bool:
    return int(results.text_hash(f"{settings.seed} {path}")[:8], 16) < settings.share * (1 << 32)


def _gate(
    setup: Setup,
    masks: list[Mask],
    settings: BuildSettings,
    workers: int,
    work: Path,
    built: Built,
    progress: Progress,
) -> dict[str, Gated]:
    stored = work / _GATED
    gated = {row["id"]: Gated.from_dict(row["gated"]) for row in results.read_lines(stored)}
    missing = [mask for mask in masks if mask.id not in gated]
    done = len(masks) - len(missing)
    progress("gates", done, len(masks))
    if missing:
        with Runner(setup, workers, settings.min_level) as runner:
            passed = runner.map(lambda start, mask: gate(start, mask, settings.gates, settings.seed), missing)
            for mask, found in passed:
                results.append_line(stored, {"id": mask.id, "gated": found.to_dict()})
                gated[mask.id] = found
                done += 1
                progress("gates", done, len(masks))
    counts: dict[str, Counter[str]] = {}
    for mask in masks:
        counts.setdefault(mask.kind, Counter())[gated[mask.id].reason] += 1
    built.gates = {kind: dict(count) for kind, count in counts.items()}
    built.runs = sum(gated[mask.id].runs for mask in masks)
    return gated


def _rows(
    repository: Repository, masks: list[Mask], gated: Mapping[str, Gated], library: Library
) -> list[dict[str, Any]]:
    by_function: dict[Function, list[tuple[Mask, Gated]]] = {}
    for mask in masks:
        if gated[mask.id].kept:
            by_function.setdefault(mask.function, []).append((mask, gated[mask.id]))
    return [
        manifest.function_row(repository, function, kept, library.context(function))
        for function, kept in by_function.items()
    ]
