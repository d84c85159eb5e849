"""Does the judge judge rightly here, and what does the sandbox keep programs from: found out by running some."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval import forgeries
from codelm.eval.judge.pool import JudgePool
from codelm.eval.judge.verdict import Job, Verdict
from codelm.eval.problem import Benchmark
from codelm.eval.sandbox.confine import Isolation


@dataclass(frozen=True)
class SelfTest:
    """Verdicts on programs whose verdict is known.

    Attributes:
        references: by benchmark, on its own solutions: all must pass.
        correct: on odd programs that are correct: all must pass.
        forged: on programs that try to pass without being correct: none may.
    """

    references: dict[str, list[Verdict]]
    correct: list[Verdict]
    forged: list[Verdict]
    isolation: Isolation

    @property
    def wrong(self) -> list[Verdict]:
        """The verdicts that are not as they must be."""
        must_pass = [*(verdict for verdicts in self.references.values() for verdict in verdicts), *self.correct]
        unfair = [verdict for verdict in must_pass if not verdict.passed]
        return unfair + [verdict for verdict in self.forged if verdict.passed or verdict.kind == "unjudged"]


def run_self_test(
    sandbox: SandboxSection,
    benchmarks: Sequence[Benchmark],
    progress: Callable[[str, int, int], None] | None = None,
) -> SelfTest:
    """Judge the benchmarks' references, the odd programs and the forgeries."""
    references = {benchmark.title: [p.job(p.gold) for p in benchmark.problems] for benchmark in benchmarks}
    correct = [forgeries.job(name, program) for name, program in forgeries.CORRECT.items()]
    forged = [forgeries.job(name, program) for name, program in forgeries.FORGERIES.items()]
    total, done = sum(map(len, references.values())) + len(correct) + len(forged), 0

    def judged(_: Verdict) -> None:
        nonlocal done
        done += 1
        if progress:
            progress("judge", done, total)

    of_references = {}
    for benchmark in benchmarks:
        with benchmark.open_judge(sandbox) as judge:
            of_references[benchmark.title] = judge.judge(references[benchmark.title], judged)
    # These need next to no time; some forgeries take all there is.
    with JudgePool(sandbox.model_copy(update={"cpu_seconds": min(1.0, sandbox.cpu_seconds)})) as pool:
        return SelfTest(of_references, pool.judge(correct, judged), pool.judge(forged, judged), pool.isolation)


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
