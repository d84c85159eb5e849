"""What is judged and what comes of it."""

from dataclasses import asdict, dataclass
from typing import Any

PARSER, COMPARED = "parser", "compared"
JUDGES = ("literal", "in_process", PARSER, COMPARED)
"""literal: tests and program never meet in one process; only literals pass between them, so nothing can be forged.
in_process: the tests run in the program's process, and a nonce that they say at their end is the proof; for tests that
need the program's own classes. A program that looks for the nonce there can forge it.
parser: nothing is run; the file with the completion is well-formed. compared: there is nothing to judge by."""

KINDS = ("passed", "failed", "crashed", "cpu", "wall", "memory", "output", "never-finished", "unjudged", COMPARED)
"""passed: every test held. failed: a test did not hold, the program raised, or answered with more than a literal.
crashed: killed by a signal of its own making. cpu, wall, memory, output: a limit was hit (output: what it printed or
wrote to files). never-finished: it ended before it had answered. unjudged: the judge itself broke, twice.
compared: its text is compared with the reference, and it counts neither as passed nor as failed."""


@dataclass(frozen=True)
class Job:
    """One program and its tests.

    Attributes:
        id: any name; verdicts come in the order of the jobs, this is for the reader.
        program: the untrusted program.
        entry_point: the function that the tests call.
        prelude: trusted source that the tests may use (the benchmark's prompt: imports and helper functions).
        test: trusted source that defines `check(candidate)`; judged in process, it sees the program's names.
        judge: one of `JUDGES`.
        patience: so many times the usual wall and CPU time, for tests that are much work.
        task_id: of the problem, for a judge that keeps the tests itself.
    """

    id: str
    program: str
    entry_point: str
    prelude: str
    test: str
    judge: str = "literal"
    patience: float = 1.0
    task_id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For the wire."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What a program deserves.

    Attributes:
        kind: one of `KINDS`.
        detail: one line for the reader; it may quote the program, so it is no evidence of anything.
        seconds: wall time from the program's start.
        cpu_seconds: of all its processes, as far as that was seen.
        sandbox: the level that isolated it.
        judge: one of `JUDGES`.
    """

    id: str
    kind: str
    detail: str
    seconds: float
    cpu_seconds: float
    sandbox: str
    judge: str = "literal"

    @property
    def passed(self) -> bool:
        """Whether it counts as a solution."""
        return self.kind == "passed"

    def to_dict(self) -> dict[str, Any]:
        """As a line of results.jsonl, without the id."""
        return {key: value for key, value in asdict(self).items() if key != "id"}
