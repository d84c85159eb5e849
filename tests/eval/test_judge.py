"""The judge: every reference passes, no forgery does, and each verdict says what happened."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.errors import EvaluationError
from codelm.eval import forgeries
from codelm.eval.judge import pool as pool_module
from codelm.eval.judge.pool import JudgePool, judge
from codelm.eval.judge.verdict import KINDS, Job
from codelm.eval.sandbox.confine import Isolation

DOUBLE = "def f(x):\n    return 2 * x\n"


def test_all_164_references_pass(pool, problems):
    verdicts = pool.judge([problem.job(problem.gold) for problem in problems])
    assert [verdict.id for verdict in verdicts if not verdict.passed] == []
    assert [verdict.id for verdict in verdicts] == [problem.task_id for problem in problems]
    assert {(verdict.judge, verdict.sandbox) for verdict in verdicts} == {("literal", pool.isolation.level)}


def test_no_reference_passes_for_another_problem(pool, problems):
    jobs = []
    for problem, other in itertools.pairwise(problems):
        wrong = f"\n    pass\n\n{other.prompt}{other.gold}\n{problem.entry_point} = {other.entry_point}\n"
        jobs.append(problem.job(wrong))
    passed = [verdict.id for verdict in pool.judge(jobs) if verdict.passed]
    assert passed == []


@pytest.mark.parametrize("name", forgeries.FORGERIES)
def test_a_forgery_does_not_pass(pool, name):
    (verdict,) = pool.judge([forgeries.job(name, forgeries.FORGERIES[name])])
    assert verdict.kind in set(KINDS) - {"passed", "unjudged"}, verdict


def test_beside_its_tests_these_forgeries_pass_as_documented(pool):
    """`literal` alone is proof against forgery; what is known to pass in process is pinned, and counted in the docs."""
    jobs = [replace(forgeries.job(*forgery), judge="in_process") for forgery in forgeries.FORGERIES.items()]
    passed = {verdict.id for verdict in pool.judge(jobs) if verdict.passed}
    equal = {f"always equal{kind}" for kind in ("", " int", " float", " str", " list", " tuple", " dict", " type")}
    assert passed == {*equal, "mock", "answers with the nonce"}
    said = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text()
    assert f"{len(passed)} of the {len(jobs)} forgeries pass" in said


@pytest.mark.parametrize("name", forgeries.CORRECT)
def test_a_correct_program_passes_however_odd(pool, name):
    (verdict,) = pool.judge([forgeries.job(name, forgeries.CORRECT[name])])
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("program", "kind", "detail"),
    [
        (DOUBLE, "passed", "1 calls"),
        ("def f(x): return 2", "failed", "AssertionError"),
        ("def f(x): return unknown", "failed", "NameError: name 'unknown' is not defined"),
        ("def f(x): return object()", "failed", "answered with a value of type object"),
        ("def f(x): raise ValueError('no')", "failed", "ValueError: no"),
        ("import os\ndef f(x): os._exit(0)", "never-finished", "exit status 0"),
        ("import os\ndef f(x): os._exit(7)", "never-finished", "exit status 7"),
        ("import sys\nsys.exit(0)", "never-finished", "SystemExit"),
        ("import os\ndef f(x): os.abort()", "crashed", "signal 6"),
        ("import ctypes\ndef f(x): ctypes.string_at(0)", "crashed", "signal 11"),
        ("def f(x):\n    while True: pass", "cpu", "1.0 s of CPU"),
        ("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "cpu", "1.0 s of CPU"),
        ("import time\ndef f(x): time.sleep(60)", "wall", "3.0 s"),
        ("def f(x): return len(bytearray(1 << 34))", "memory", "MemoryError"),
        ("def f(x):\n    a = []\n    while True: a.append(bytearray(1 << 26))", "memory", "MemoryError"),
        ("def f(x):\n    while True: print('x' * 1000)", "output", "bytes printed"),
        ("import os\ndef f(x):\n    while True: os.write(2, b'x' * 1000)", "output", "bytes printed"),
    ],
)
def test_a_verdict_says_what_happened(verdict, program, kind, detail):
    given = verdict(program)
    assert given.kind == kind, given
    assert detail in given.detail


def test_tests_that_swallow_errors_do_not_hide_a_death(pool):
    test = "def check(candidate):\n    try:\n        candidate(1)\n    except BaseException:\n        pass\n"
    gone, refused, raised = pool.judge(
        [
            Job("gone", "import os\ndef f(x): os._exit(0)", "f", "", test),
            Job("refused", "def f(x): return object()", "f", "", test),
            Job("raised", "def f(x): raise ValueError", "f", "", test),
        ]
    )
    assert (gone.kind, refused.kind) == ("never-finished", "failed")
    assert raised.passed, "what the program raises belongs to the tests"


def test_tests_see_builtin_exceptions_by_type(pool):
    test = (
        "def check(candidate):\n"
        "    try:\n        candidate(0)\n        assert False\n    except ZeroDivisionError as error:\n"
        "        assert 'division' in str(error)\n"
        "    try:\n        candidate(1)\n        assert False\n    except KeyError:\n        pass\n"
    )
    program = "class Mine(KeyError): pass\ndef f(x):\n    if x: raise Mine\n    return 1 / x\n"
    assert pool.judge([Job("job", program, "f", "", test)])[0].passed


def test_tests_that_never_call_the_function_pass_nothing(pool):
    (given,) = pool.judge([Job("job", DOUBLE, "f", "", "def check(candidate): pass\n")])
    assert (given.kind, given.detail) == ("failed", "AssertionError: the tests never called the function")


def test_slow_tests_are_bounded_too(pool):
    test = "def check(candidate):\n    assert sum(range(candidate(1))) >= 0\n"
    (given,) = pool.judge([Job("job", "def f(x): return 10 ** 12", "f", "", test)])
    assert given.kind in ("cpu", "wall"), given
    test = "def check(candidate):\n    assert len([0] * candidate(1)) >= 0\n"
    (given,) = pool.judge([Job("job", "def f(x): return 10 ** 12", "f", "", test)])
    assert not given.passed


def test_programs_do_not_meet_each_other(pool):
    keep = "import builtins, os\nbuiltins.seen = 1\nopen('note', 'w').close()\nos.makedirs('a/b')\n" + DOUBLE
    look = "import builtins, os\ndef f(x): return [hasattr(builtins, 'seen'), os.listdir('.')]\n"
    test = "def check(candidate):\n    assert candidate(1) == {}\n"
    jobs = [Job("a", keep, "f", "", test.format(2)), Job("b", look, "f", "", test.format([False, []]))] * 4
    assert all(verdict.passed for verdict in pool.judge(jobs))


def test_programs_are_the_same_each_time(pool):
    program = "import random\ndef f(x): return [random.random(), hash('x'), list({'a', 'b', 'c', 'd'})]\n"
    test = "def check(candidate):\n    assert False, candidate(1)\n"
    details = {verdict.detail for verdict in pool.judge([Job("job", program, "f", "", test)] * 6)}
    assert len(details) == 1


def test_a_completion_of_ten_megabytes_is_judged(verdict):
    assert verdict(DOUBLE + "#" * (10 << 20)).passed
    assert verdict("x = '" + "y" * (10 << 20) + "\n" + DOUBLE).kind == "failed"


def test_odd_text_is_judged(verdict):
    assert verdict("def f(x): return '\ud800'").kind == "failed"
    assert verdict("def f(x): return chr(0xd800)", r"f(1) == '\ud800'").passed
    assert verdict("def f(x): return x", "f(float('nan')) != 0").passed


def test_a_broken_worker_is_replaced_and_its_job_repeated(problems, monkeypatch):
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(home))
    settings = SandboxSection(num_workers=2)
    jobs = [problem.job(problem.gold) for problem in problems[:30]]
    with JudgePool(settings) as pool:
        killed = []

        def kill_one(_):
            if not killed:
                victim = next(worker for worker in pool._workers if worker.task is not None)
                killed.append(victim.process.pid)
                os.kill(victim.process.pid, signal.SIGKILL)

        verdicts = pool.judge(jobs, kill_one)
        assert killed[0] not in [worker.process.pid for worker in pool._workers]
        assert len(list(home.glob("codelm-judge-*"))) == 2
    assert list(home.iterdir()) == []
    assert [verdict.kind for verdict in verdicts] == ["passed"] * 30
    assert [verdict.id for verdict in verdicts] == [job.id for job in jobs]


def test_a_job_that_breaks_every_worker_is_left_unjudged(monkeypatch):
    monkeypatch.setattr(pool_module, "_GRACE_SECONDS", -2.9)
    settings = SandboxSection(num_workers=1, wall_seconds=3.0, cpu_seconds=1.0)
    slow = Job("slow", "import time\ntime.sleep(60)", "f", "", "")
    good = Job("good", DOUBLE, "f", "", "def check(candidate): assert candidate(2) == 4")
    verdicts = judge([slow, good], settings)
    assert [verdict.kind for verdict in verdicts] == ["unjudged", "passed"]
    assert "went silent" in verdicts[0].detail


def test_below_the_floor_it_refuses(monkeypatch):
    weak = Isolation("rlimits", False, 0, False, ("no Landlock: the kernel is too old",))
    monkeypatch.setattr(pool_module, "_await_hello", lambda worker: weak)
    with JudgePool(SandboxSection(num_workers=1, min_level="rlimits")) as pool:
        assert pool.isolation == weak
    with pytest.raises(EvaluationError, match=r"level `rlimits` \(no Landlock.*asks for `landlock`"):
        JudgePool(SandboxSection(num_workers=1, min_level="landlock"))


def test_the_judge_needs_no_torch():
    code = "import sys, codelm.eval.judge.pool; print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_an_interrupted_judge_ends_at_once_and_leaves_nothing(monkeypatch):
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(home))

    def interrupt(_):
        raise KeyboardInterrupt

    sleeper = f"import os, time\nopen('mark', 'w').close()\nif os.fork() == 0: os.setsid()\ntime.sleep({time.time()})"
    jobs = [Job("quick", DOUBLE, "f", "", ""), Job("slow", sleeper, "f", "", "")]
    began = time.monotonic()
    with JudgePool(SandboxSection(num_workers=2, wall_seconds=60)) as pool, pytest.raises(KeyboardInterrupt):
        pool.judge(jobs, interrupt)
    assert time.monotonic() - began < 10
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_programs_do_not_outlive_their_worker(how):
    program = "import os, time\nfor _ in range(3):\n    if os.fork() == 0: os.setsid()\ntime.sleep(1000)\n"
    with JudgePool(SandboxSection(num_workers=1, wall_seconds=60)) as pool:
        (worker,) = pool._workers
        worker.assign(pool_module._Task(0, Job("job", program, "f", "", "")))
        started = _wait_for(lambda: len(_below(worker.process.pid)) >= 10 and _below(worker.process.pid))
        os.kill(worker.process.pid, how)
        _wait_for(lambda: not any(map(_running, started)))


def _wait_for(condition):
    deadline = time.monotonic() + 20
    while not (outcome := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return outcome


def _below(pid):
    """All descendants of a process that can be found now."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
    found, below = set(), {pid}
    while below:
        below = {child for child, parent in parents.items() if parent in below} - found
        found |= below
    return found


def test_nothing_outlives_a_caller_that_is_killed():
    code = (
        "import sys, os, signal; from codelm.config.evaluation.sandbox import SandboxSection\n"
        "from codelm.eval.judge.pool import JudgePool\n"
        "pool = JudgePool(SandboxSection(num_workers=2))\n"
        "print(*[worker.process.pid for worker in pool._workers], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    workers = done.stdout.split()
    assert len(workers) == 2
    _wait_for(lambda: not any(map(_running, workers)))


def _running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
