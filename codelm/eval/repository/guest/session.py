"""One run of pytest in a job's process, told as events: what was collected, every test's outcome, lines, the end.

The nonce is said at the end, after the last test, by a function that the tests are not given.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from codelm.eval.repository.guest.lines import Tracer, tracer_of

Report = Callable[[dict[str, Any]], None]

_OPTIONS = (
    "-q",
    "--tb=no",
    "--color=no",
    "--no-header",
    "--no-summary",
    # Asserts need not explain themselves: nothing to rewrite, nothing to compile twice.
    "--assert=plain",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:randomly",
    "-p",
    "no:pytest_cov",
    # Tests that need an absent plugin fail; the others need not.
    "-o",
    "required_plugins=",
)


def run(order: dict[str, Any], folder: str, report: Report) -> None:
    """Run pytest as an order says.

    Args:
        order: arguments (of the repository's own configuration), paths or ids to collect from (`targets`), the exact
            `ids` to run (null: all), `collect_only`, `trace`, `reverse`, `first_failure_ends`, `nonce`.
        folder: the copy of the repository, the current folder.
    """
    nonce = order.pop("nonce")
    arguments = [*_OPTIONS, f"--rootdir={folder}", "-o", f"addopts={order['addopts']}"]
    arguments += ["--collect-only"] if order["collect_only"] else []
    arguments += ["--maxfail=1"] if order["first_failure_ends"] else []
    session = _Session(order, folder, report)
    status = pytest.main([*arguments, *order["targets"]], plugins=[session])
    report({"finished": nonce, "status": int(status), "ran": session.ran})
    if order["trace"]:
        report({"modules": _foreign_modules(folder)})


class _Session:
    def __init__(self, order: dict[str, Any], folder: str, report: Report):
        self.order, self.report = order, report
        self.tracer: Tracer | None = tracer_of(folder) if order["trace"] else None
        self.outcome, self.why = "", ""
        self.ran = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: Any, items: "list[Any]") -> None:
        wanted = self.order["ids"]
        if wanted is not None:
            places = {id: place for place, id in enumerate(wanted)}
            chosen = {item.nodeid: item for item in items if item.nodeid in places}
            items[:] = sorted(chosen.values(), key=lambda item: places[item.nodeid])
        if self.order["reverse"]:
            items.reverse()
        if self.order["collect_only"]:
            unique = list(dict.fromkeys(item.nodeid for item in items))
            for start in range(0, len(unique), 100):
                self.report({"collected": unique[start : start + 100]})

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self.report({"uncollected": report.nodeid, "why": _reason(str(report.longrepr))})

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: Any, nextitem: Any) -> Any:
        self.report({"start": item.nodeid})
        self.outcome, self.why = "", ""
        started = time.perf_counter()
        if self.tracer:
            self.tracer.start()
        yield
        lines = self.tracer.stop() if self.tracer else None
        self.ran += 1
        event = {"end": item.nodeid, "outcome": self.outcome or "never-ran", "seconds": time.perf_counter() - started}
        self.report(
            {**event, **({"lines": lines} if lines is not None else {}), **({"why": self.why} if self.why else {})}
        )

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.outcome = "failed"
        elif self.outcome == "failed":
            return
        elif report.skipped or hasattr(report, "wasxfail"):
            self.outcome = "skipped"
        elif report.when == "call" and not self.outcome:
            self.outcome = "passed"

    def pytest_exception_interact(self, call: Any) -> None:
        place = os.path.basename(str(call.excinfo.traceback[-1].path))
        self.why = self.why or f"{_reason(call.excinfo.exconly())} (in {place})"


def _reason(text: str) -> str:
    """The line of a traceback or an exception that says what is wrong."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (marked[-1] if marked else lines[-1] if lines else "")[:300]


def _foreign_modules(folder: str) -> "list[str]":
    """The modules that are loaded and are not the repository's: what a worker may import once for all jobs."""
    names = []
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and os.path.isabs(path) and not path.startswith(folder + os.sep) and name != "__main__":
            names.append(name)
    return names
