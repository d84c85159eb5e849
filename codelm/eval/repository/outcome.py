"""The verdict on a text that stands in a function's place: whether exactly the covering tests pass, each by its id."""

from dataclasses import dataclass

from codelm.eval.repository.worker import Ran, Run
from codelm.eval.sandbox.confine import Limits

JUDGE = "in_process"
_MEMORY, _OUTPUT, _DISK, _PROCESSES, _FILES = 4 << 30, 8 << 20, 256 << 20, 64, 512


def limits(cpu_seconds: float, wall_seconds: float) -> Limits:
    """Bounds of one run of pytest; a repository's dependencies need more memory than a small program."""
    return Limits(wall_seconds, cpu_seconds, _MEMORY, _OUTPUT, _DISK, _PROCESSES, _FILES)


@dataclass(frozen=True)
class Outcome:
    """What a run deserves: `kind` as in `codelm.eval.judge.verdict.KINDS`, and a line for the reader."""

    kind: str
    detail: str
    seconds: float
    cpu_seconds: float

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.kind == "passed"


def judging_run(path: str, text: str, tests: tuple[str, ...], bounds: Limits) -> Run:
    """The run that judges a file's new text."""
    silence = bounds.wall_seconds
    return Run(tests, bounds, files={path: text}, silence_seconds=silence, first_failure_ends=True)


def outcome(ran: Ran, run: Run) -> Outcome:
    """Read a verdict from what came; the run's own exit status counts for nothing."""
    kind, detail = _classify(ran, run)
    return Outcome(kind, detail, round(ran.end["seconds"], 4), round(ran.end["cpu_seconds"], 4))


def _classify(ran: Ran, run: Run) -> tuple[str, str]:
    bounds, end = run.limits, ran.end
    spent = end["cpu_seconds"] >= bounds.cpu_seconds
    if end["stopped"] in ("wall", "silence"):
        return ("cpu" if spent else "wall"), f"more than {bounds.wall_seconds:g} s"
    if end["stopped"] == "cpu":
        return "cpu", f"more than {bounds.cpu_seconds:g} s of CPU time"
    if end["stopped"] == "memory":
        return "memory", f"more than {bounds.memory_bytes >> 20} MiB in all its processes"
    if end["stopped"] in ("output", "disk"):
        return "output", "printed or wrote too much"
    outcomes = ran.outcomes()
    failed = next((event for event in ran.events if event.get("outcome") not in (None, "passed")), None)
    if ran.finished and failed is None and set(outcomes) == set(run.ids or ()):
        return "passed", ""
    if failed is not None:
        return "failed", f"{failed['end']}: {failed.get('why') or failed['outcome']}"
    broken = next((event for event in ran.events if "uncollected" in event), None)
    if broken is not None:
        return "failed", f"{broken['uncollected']}: {broken['why']}"
    signal_number = end["status"] & 0x7F
    if signal_number == 24 or (signal_number == 9 and spent):
        return "cpu", f"more than {bounds.cpu_seconds:g} s of CPU time"
    if signal_number and end["alone"]:
        return "crashed", f"killed by signal {signal_number}"
    if ran.finished:
        return "failed", f"{len(outcomes)} of {len(run.ids or ())} tests ran"
    return "never-finished", "its process ended before its tests did"
