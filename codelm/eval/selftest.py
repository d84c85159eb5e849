"""Does the judge judge rightly here, and what does the sandbox keep programs from: found out by running some."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.errors import EvaluationError
from codelm.eval import forgeries
from codelm.eval.judge.contract import Judge
from codelm.eval.judge.pool import JudgePool
from codelm.eval.judge.verdict import COMPARED, PARSER, Job, Verdict
from codelm.eval.mutations import python_mutants, text_mutants
from codelm.eval.problem import Benchmark, Problem
from codelm.eval.programs import samples, toolchains
from codelm.eval.programs.judge import ProgramJudge
from codelm.eval.sandbox.confine import Isolation

Must = Literal["pass", "not pass", "mostly not pass"]
_NOTICED = 0.8
"""Of all mutants but one. Some compute the same, and no tests notice all others; HumanEval's notice 94 %."""
_TEXT_MUTANTS = 6


@dataclass(frozen=True)
class Group:
    """Verdicts on programs that have something in common."""

    title: str
    must: Must
    verdicts: list[Verdict]

    @property
    def passed(self) -> int:
        """How many passed."""
        return sum(verdict.passed for verdict in self.verdicts)

    @property
    def wrong(self) -> list[Verdict]:
        """The verdicts that are not as they must be."""
        if self.must == "pass":
            return [verdict for verdict in self.verdicts if not verdict.passed]
        wrong = [verdict for verdict in self.verdicts if verdict.passed or verdict.kind == "unjudged"]
        if self.must == "mostly not pass" and len(self.verdicts) - len(wrong) >= _NOTICED * (len(self.verdicts) - 1):
            return []
        return wrong


@dataclass
class SelfTest:
    """What came of it.

    Attributes:
        left_out: a sentence for each toolchain that is not here.
    """

    isolation: Isolation
    groups: list[Group] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[Verdict]:
        """The verdicts that are not as they must be."""
        return [verdict for group in self.groups for verdict in group.wrong]


def run_self_test(
    sandbox: SandboxSection,
    benchmarks: Sequence[Benchmark],
    languages: Sequence[str],
    progress: Callable[[str, int, int], None] | None = None,
) -> SelfTest:
    """Judge the benchmarks' references and mutants of them, the odd programs and the forgeries.

    Args:
        languages: names of toolchains; those that are not here are left out.
    """
    count = {"done": 0}

    def judged(_: Verdict) -> None:
        count["done"] += 1
        if progress:
            progress("judge", count["done"], total)

    batches, left_out = [], []
    for benchmark in benchmarks:
        batches.append((benchmark.open_judge, sandbox, _of_benchmark(benchmark)))
    for name in languages:
        try:
            found = toolchains.find(name)
        except EvaluationError as error:
            left_out.append(str(error))
            continue
        batches.append((lambda bounds, found=found: ProgramJudge(found, bounds), sandbox, _of_toolchain(name)))
    # These need next to no time; some forgeries take all there is.
    hasty = sandbox.model_copy(update={"cpu_seconds": min(1.0, sandbox.cpu_seconds)})
    batches.append((JudgePool, hasty, _of_python()))
    total = sum(len(jobs) for *_, groups in batches for _, _, jobs in groups)
    outcome = None
    for open_judge, bounds, groups in batches:
        with open_judge(bounds) as judge:
            outcome = outcome or SelfTest(judge.isolation, left_out=left_out)
            outcome.groups += list(_judged(judge, groups, judged))
    assert outcome is not None
    return outcome


_Jobs = tuple[str, Must, list[Job]]


def _judged(judge: Judge, groups: Sequence[_Jobs], progress: Callable[[Verdict], None]) -> Iterator[Group]:
    for title, must, jobs in groups:
        if jobs:
            yield Group(title, must, judge.judge(jobs, progress))


def _of_benchmark(benchmark: Benchmark) -> list[_Jobs]:
    known = [p for p in benchmark.problems if p.gold and p.completed and p.judge != COMPARED]
    tested = [problem for problem in known if problem.judge != PARSER]
    stubs = [problem.job(_stub(problem)) for problem in tested if problem.form in ("function", "program")]
    mutants = [
        problem.job(text, id=f"{problem.task_id}, {what}")
        for problem in tested
        for what, text in python_mutants(problem.prompt, problem.gold, problem.suffix or "", 1)
    ]
    return [
        (f"{benchmark.title}'s reference solutions", "pass", [problem.job(problem.gold) for problem in known]),
        (f"{benchmark.title}'s references that return None", "not pass", stubs),
        (f"{benchmark.title}'s references with a mutation", "mostly not pass", mutants),
    ]


def _stub(problem: Problem) -> str:
    return "    return None\n" if problem.form == "function" else f"def {problem.entry_point}(*_): return None\n"


def _of_toolchain(name: str) -> list[_Jobs]:
    problem, title = samples.problem(name), toolchains.TOOLCHAINS[name].title

    def jobs(completions: dict[str, str]) -> list[Job]:
        return [problem.job(text, id=f"{title}: {what}") for what, text in completions.items()]

    mutants = dict(list(text_mutants(problem.gold))[:_TEXT_MUTANTS])
    return [
        (f"{title}: correct programs", "pass", jobs(samples.correct(name))),
        (f"{title}: mutated ones", "not pass", jobs(mutants)),
        (f"{title}: forgeries", "not pass", jobs(samples.forged(name))),
    ]


def _of_python() -> list[_Jobs]:
    correct = [forgeries.job(name, program) for name, program in forgeries.CORRECT.items()]
    forged = [forgeries.job(name, program) for name, program in forgeries.FORGERIES.items()]
    return [("odd but correct programs", "pass", correct), ("forgeries", "not pass", forged)]


@dataclass(frozen=True)
class Attempt:
    """What a program tried to do, and whether it was kept from it."""

    what: str
    denied: bool
    detail: str


_ATTEMPTS = {
    "read /etc/passwd": "open('/etc/passwd').read()",
    "list /": "os.listdir('/')",
    "read an installed package": "open({package!r}).read(1)",
    "write to /tmp": "open('/tmp/codelm-sandbox-check', 'w').close()",
    "write to /dev/shm": "open('/dev/shm/codelm-sandbox-check', 'w').close()",
    "write to our home": "open({home!r} + '/codelm-sandbox-check', 'w').close()",
    "read another process's environment": "open(f'/proc/{{os.getppid()}}/environ', 'rb').read()",
    "find a secret in its own environment": "[k for k in os.environ if 'TOKEN' in k or 'KEY' in k][0]",
    "open a network socket": "socket.socket()",
    "connect to a local service": "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
    "signal its parent": "os.kill(os.getppid(), 0)",
    "start a program": "assert os.spawnv(os.P_WAIT, '/bin/true', ['true']) == 0",
    "change to root": "os.setuid(0)",
    "make a namespace": "assert __import__('ctypes').CDLL(None).unshare(1 << 28) == 0",
    "start 300 processes": "for _ in range(300): os.fork() or time.sleep(5) or os._exit(0)",
    "allocate 16 GiB": "bytearray(16 << 30)",
}


def check_sandbox(sandbox: SandboxSection) -> tuple[Isolation, list[Attempt]]:
    """Let programs try what they must not, one by one, and see."""
    places = {"package": os.path.abspath(__file__), "home": os.path.expanduser("~")}
    jobs = [_attempt(what, action.format(**places)) for what, action in _ATTEMPTS.items()]
    with JudgePool(sandbox.model_copy(update={"min_level": "none"})) as pool:
        verdicts = pool.judge(jobs)
        attempts = [Attempt(verdict.id, not verdict.passed, verdict.detail) for verdict in verdicts]
        return pool.isolation, attempts


def _attempt(what: str, action: str) -> Job:
    program = f"import os, socket, time\ndef attempt():\n    {action}\n    return 'done'\n"
    test = "def check(candidate):\n    assert candidate() == 'done'\n"
    return Job(id=what, program=program, entry_point="attempt", prelude="", test=test)
