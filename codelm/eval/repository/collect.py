"""Which tests there are, which of them can be relied upon, and which lines each of them runs."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codelm.eval import results
from codelm.eval.repository.copy import is_test_path
from codelm.eval.repository.outcome import limits
from codelm.eval.repository.runner import Runner
from codelm.eval.repository.worker import Ran, Run

Progress = Callable[[str, int, int], None]
Start = Callable[..., Ran]

_LIST_SECONDS, _CHUNK_SECONDS = 900.0, 3600.0
_MOST_RESTARTS = 20
_CHUNK = 200
_STATUS_USAGE = 4

_CAUSES = (
    ("need the network", r"gaierror|name resolution|Name or service not known|ConnectionError|ConnectionRefused"
        r"|URLError|Max retries|NetworkError|Network is unreachable|ConnectError"
        r"|\(in (?:socket|ssl|http|urllib)\w*\.py\)"),
    ("need a display", r"display|DISPLAY|TclError|xcb|GLX|X server"),
    ("need what the sandbox denies", r"PermissionError|Operation not permitted|Permission denied"),
    ("need a module that is not installed", r"ModuleNotFoundError|ImportError|No module named"),
    ("need a fixture that is not there", r"fixture '|FixtureLookupError"),
)  # fmt: skip
_SAID = {
    "flaky": "they did not pass every time, or not in another order",
    "ended the run": "they end the process, or its group, that they run in",
    "too slow": "they took too long",
    "never-ran": "their run ended before they began",
}


@dataclass
class Suite:
    """The tests that passed every time, and what they run.

    Attributes:
        seconds: of each test, traced.
        covered: tests by line, by path; test code is not in it.
        left_out: tests by reason: failed, skipped, flaky, ended the run, too slow.
        why: how many failures have which cause.
        first_failure: a test and what it raised.
        uncollected: files of tests that could not be imported, and what was said.
        modules: what the tests import that is not the repository's.
        trouble: sentences for the user.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    covered: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    why: dict[str, int] = field(default_factory=dict)
    first_failure: str = ""
    uncollected: dict[str, str] = field(default_factory=dict)
    modules: tuple[str, ...] = ()
    trouble: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """For the summary."""
        return {"passed every time": len(self.seconds), **{why: len(ids) for why, ids in self.left_out.items()}}


def list_tests(runner: Runner, suite: Suite) -> tuple[list[str], bool]:
    """The ids of all tests, and whether the repository's own pytest options could be used."""
    run = Run(None, limits(_LIST_SECONDS, _LIST_SECONDS), silence_seconds=_LIST_SECONDS, collect_only=True)
    ran = runner.run(run)
    ids = [id for event in ran.events for id in event.get("collected", ())]
    usable = True
    status = next((event["status"] for event in ran.events if "finished" in event), None)
    refused = not ids and (status == _STATUS_USAGE or not ran.finished)
    if refused and runner.setup.addopts:
        return [], False
    suite.uncollected = {event["uncollected"]: event["why"] for event in ran.events if "uncollected" in event}
    if refused:
        said = next((line for line in reversed(ran.end["printed"].splitlines()) if line.strip()), "nothing")
        suite.trouble.append(f"pytest could not list the tests (it said last: {said.strip()[:200]}); mend that first")
    return list(dict.fromkeys(ids)), usable


def run_suite(runner: Runner, ids: list[str], test_seconds: float, stored: Path, progress: Progress) -> dict[str, Any]:
    """Run every test once, traced, in chunks of a file each; chunks that are stored already are not run again.

    Returns:
        For each test its outcome, seconds, lines by path, why it failed; under "" the modules that were loaded.
    """
    rows = {tuple(row["ids"]): row["tests"] for row in results.read_lines(stored)}
    chunks = [chunk for chunk in _chunks(ids) if chunk not in rows]
    done = len(ids) - sum(map(len, chunks))
    found: dict[str, Any] = {test: what for tests in rows.values() for test, what in tests.items()}
    progress("tests", done, len(ids))

    def trace(start: Start, chunk: tuple[str, ...]) -> dict[str, Any]:
        return _run_chunk(start, chunk, test_seconds, trace=True)

    for chunk, tests in runner.map(trace, chunks):
        results.append_line(stored, {"ids": chunk, "tests": tests})
        modules = sorted({*found.get("", ()), *tests.get("", ())})
        found.update(tests)
        found[""] = modules
        done += len(chunk)
        progress("tests", done, len(ids))
    return found


def repeat_suite(
    runner: Runner, ids: list[str], times: int, test_seconds: float, stored: Path, progress: Progress
) -> set[str]:
    """Run tests again, the other way round and with other hashes; those that did not pass every time."""
    rows = {(row["time"], tuple(row["ids"])): row["flaky"] for row in results.read_lines(stored)}
    tasks = [(time, chunk) for time in range(times) for chunk in _chunks(ids)]
    flaky = {test for found in rows.values() for test in found}
    missing = [task for task in tasks if task not in rows]
    done, total = sum(len(chunk) for task in tasks if task in rows for chunk in [task[1]]), times * len(ids)
    progress("repeat", done, total)

    def repeat(start: Start, task: tuple[int, tuple[str, ...]]) -> list[str]:
        time, chunk = task
        tests = _run_chunk(start, chunk, test_seconds, reverse=time % 2 == 0)
        return [id for id in chunk if tests.get(id, {}).get("outcome") != "passed"]

    for (time, chunk), found in runner.map(repeat, missing):
        results.append_line(stored, {"time": time, "ids": chunk, "flaky": found})
        flaky.update(found)
        done += len(chunk)
        progress("repeat", done, total)
    return flaky


def summarise(suite: Suite, tests: dict[str, Any], flaky: Iterable[str]) -> None:
    """Enter what the runs showed into the suite."""
    suite.modules = tuple(tests.pop("", ()))
    flaky = set(flaky)
    left_out: defaultdict[str, list[str]] = defaultdict(list)
    causes: Counter[str] = Counter()
    for id, test in tests.items():
        reason = "flaky" if id in flaky else test["outcome"]
        if reason != "passed":
            left_out[reason].append(id)
            if reason == "failed":
                causes[cause_of(test.get("why", ""))] += 1
                suite.first_failure = suite.first_failure or f"{id}: {test.get('why', 'its set-up failed')}"
            continue
        suite.seconds[id] = test["seconds"]
        for path, lines in test.get("lines", {}).items():
            if not is_test_path(path):
                by_line = suite.covered.setdefault(path, {})
                for line in lines:
                    by_line.setdefault(line, set()).add(id)
    suite.left_out, suite.why = dict(left_out), dict(causes)


def cause_of(why: str) -> str:
    """What kind of trouble an exception speaks of."""
    return next((cause for cause, words in _CAUSES if re.search(words, why)), "other")


def _chunks(ids: list[str]) -> list[tuple[str, ...]]:
    """The tests of a file together, at most `_CHUNK` at once."""
    by_file: defaultdict[str, list[str]] = defaultdict(list)
    for id in ids:
        by_file[id.partition("::")[0]].append(id)
    return [tuple(file[start : start + _CHUNK]) for file in by_file.values() for start in range(0, len(file), _CHUNK)]


def _run_chunk(
    start: Start, chunk: tuple[str, ...], test_seconds: float, trace: bool = False, reverse: bool = False
) -> dict[str, Any]:
    """Run some tests; one that ends the run, or takes too long, is noted and the others are run without it."""
    tests: dict[str, Any] = {}
    left = list(chunk)
    for _ in range(_MOST_RESTARTS):
        bounds = limits(_CHUNK_SECONDS, _CHUNK_SECONDS)
        ran = start(Run(tuple(left), bounds, silence_seconds=test_seconds, trace=trace, reverse=reverse))
        for event in ran.events:
            if "end" in event:
                seconds = round(event["seconds"], 4)
                test = {"outcome": event["outcome"], "seconds": seconds}
                tests[event["end"]] = {**test, **{key: event[key] for key in ("lines", "why") if key in event}}
            elif "modules" in event:
                tests[""] = event["modules"]
        culprit = ran.last_started()
        if culprit is not None and culprit not in tests:
            slow = ran.end["stopped"] in ("silence", "wall")
            tests[culprit] = {"outcome": "too slow" if slow else "ended the run", "seconds": 0.0}
        left = [id for id in left if id not in tests]
        if not left or ran.finished or culprit is None:
            break
    for id in left:
        tests[id] = {"outcome": "never-ran", "seconds": 0.0}
    return tests


def troubles(suite: Suite, count: int, own: set[str]) -> Iterator[str]:
    """A sentence for everything about the tests that the user may want to mend."""
    missing = {_missing_module(why) for why in suite.uncollected.values()} - {""}
    if missing & own:
        yield (
            f"tests cannot import {', '.join(sorted(missing & own))}: if it has an extension that must be compiled,"
            " build it in place first (`python setup.py build_ext --inplace`, or an editable installation)"
        )
    elif suite.uncollected:
        path, why = next(iter(suite.uncollected.items()))
        yield f"{len(suite.uncollected)} files of tests cannot be imported, the first is {path}: {why}"
    if not count and not suite.trouble:
        yield (
            "the repository has no tests that pytest finds: nothing is judged by tests, only lines and blocks are"
            " compared"
        )
    for reason, ids in suite.left_out.items():
        if reason == "failed":
            causes = ", ".join(
                f"{number} {cause}" for cause, number in sorted(suite.why.items(), key=lambda item: -item[1])
            )
            yield f"{len(ids)} of {count} tests fail in the sandbox and are left out ({causes}; {suite.first_failure})"
        elif reason != "skipped":
            yield f"{len(ids)} of {count} tests are left out: {_SAID[reason]} (the first is {ids[0]})"


def _missing_module(why: str) -> str:
    """The top-level name of what could not be imported."""
    match = re.search(
        r"(?:No module named|cannot import name .* from(?: partially initialized module)?) '([\w.]+)'", why
    )
    return match[1].partition(".")[0] if match else ""
