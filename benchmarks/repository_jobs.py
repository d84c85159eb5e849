"""Jobs a second of a repository benchmark's judge, against a fresh `python -m pytest` for each.

    python benchmarks/repository_jobs.py bench/ [--jobs 100] [--workers 1]

Every job is the reference of one of the benchmark's items in a copy that is put back afterwards, inside the sandbox;
the fresh process runs the same tests in a plain folder, without a sandbox. CPU seconds are those of all processes that
a job takes, so they can be compared on a busy machine.
"""

import argparse
import itertools
import os
import resource
import subprocess
import time
from pathlib import Path

import psutil

from codelm.eval.repository.items import Item
from codelm.eval.repository.judge import RepositoryJudge


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", type=Path)
    parser.add_argument("--python", help="another interpreter than it was built with")
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--workers", type=int, default=1)
    arguments = parser.parse_args()
    with RepositoryJudge(arguments.benchmark, arguments.python, arguments.workers) as judge:
        every = max(1, len(judge.benchmark.executable) // arguments.jobs)
        items = list(itertools.islice(itertools.cycle(judge.benchmark.executable[::every]), arguments.jobs))
        judge.judge([item.job(item.gold) for item in items[: 2 * arguments.workers]])
        before, started = _cpu_seconds(judge.runner.processes()), time.monotonic()
        verdicts = judge.judge([item.job(item.gold) for item in items])
        wall, cpu = time.monotonic() - started, _cpu_seconds(judge.runner.processes()) - before
        passed = sum(verdict.passed for verdict in verdicts)
        _print(f"warm, {arguments.workers} workers, {judge.isolation.describe()}", len(items), passed, wall, cpu)
        environment = judge.runner.setup.environment
        _fresh(environment.python, judge.tree, judge.runner.setup.roots, items)


def _cpu_seconds(processes: list[int]) -> float:
    """Of processes and of all their children that have ended."""
    return sum(sum(psutil.Process(process).cpu_times()[:4]) for process in processes)


def _fresh(python: str, tree: Path, roots: tuple[str, ...], items: list[Item]) -> None:
    path = os.pathsep.join(str(tree / root) for root in roots)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    passed = 0
    for item in items:
        command = [python, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", "--rootdir=.", *item.tests]
        passed += subprocess.run(command, cwd=tree, env=environment, capture_output=True).returncode == 0
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    _print("a fresh `python -m pytest` each", len(items), passed, wall, cpu)


def _print(what: str, jobs: int, passed: int, wall: float, cpu: float) -> None:
    print(
        f"{what}: {jobs} jobs, {passed} passed, {jobs / wall:.2f} jobs/s,"
        f" {1000 * cpu / jobs:.0f} ms of CPU time a job ({jobs / cpu:.1f} jobs a second of CPU time)"
    )


if __name__ == "__main__":
    main()
