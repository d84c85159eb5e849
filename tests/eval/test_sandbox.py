"""The sandbox: hostile programs leave the machine as it was, as root and as an ordinary user."""

import importlib.util
import json
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval import selftest
from codelm.eval.benchmarks import humaneval
from codelm.eval.judge.pool import JudgePool
from codelm.eval.judge.verdict import Job
from codelm.eval.sandbox import kernel
from codelm.eval.sandbox.confine import LEVELS

_SPEC = importlib.util.spec_from_file_location("hostile", Path(__file__).with_name("hostile.py"))
hostile = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(hostile)

SLOW = {"forks and leaves", "ignores SIGTERM", "ignores every signal", "stops itself", "makes files without end"}
RIGHT = "\ndef f(x): return 2 * x\n"
TEST = "CANARY = 'CANARY'\ndef check(candidate):\n    assert candidate(2) == 4\n"


@pytest.fixture(scope="module")
def pool():
    # A worker started with a secret in our environment must not hand it on.
    os.environ["CANARY_TOKEN"] = "CANARY"
    try:
        with JudgePool(SandboxSection(num_workers=1, cpu_seconds=1.0, wall_seconds=2.0)) as pool:
            yield pool
    finally:
        del os.environ["CANARY_TOKEN"]


@pytest.fixture(scope="module")
def outside():
    """A world that programs may not touch: a folder open to all users, a listening port, a process."""
    place = Path(tempfile.mkdtemp(prefix="codelm-test-"))
    place.chmod(0o777)
    secret = place / "secret"
    secret.write_text("CANARY")
    secret.chmod(0o666)
    victim = subprocess.Popen(["sleep", "600"])
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        abstract.bind(f"\0codelm-test-{victim.pid}")
        abstract.listen()
        datagrams.bind(server.getsockname())
        for listener in (server, abstract, datagrams):
            listener.setblocking(False)
        yield {
            "place": str(place),
            "port": server.getsockname()[1],
            "victim": victim.pid,
            "package": str(humaneval._data_file()),
            "siblings": os.path.dirname(place),
            "listeners": (server, abstract, datagrams),
        }
    victim.kill()
    victim.wait()
    shutil.rmtree(place)


def _state(outside):
    secret = Path(outside["place"]) / "secret"
    status = secret.stat()
    return {
        "names": sorted(os.listdir(outside["place"])),
        "text": secret.read_text(),
        "mode": stat.S_IMODE(status.st_mode),
        "modified": status.st_mtime_ns,
        "links": status.st_nlink,
        "victim runs": Path(f"/proc/{outside['victim']}/stat").read_text().rsplit(")", 1)[1].split()[0] in "RSD",
        "shared memory": [name for name in os.listdir("/dev/shm") if "codelm" in name],
        "System V segment": [line for line in Path("/proc/sysvipc/shm").read_text().splitlines() if " 4242 " in line],
        "package": os.stat(outside["package"]).st_mtime_ns,
        "connections": [_accepted(listener) for listener in outside["listeners"]],
    }


def _accepted(listener):
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(100)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


def _processes_of(users):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.stat(f"/proc/{name}").st_uid in users:
                found.append(name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in hostile.HOSTILE]
)
def test_a_hostile_program_leaves_the_machine_as_it_was(pool, outside, name):
    before = _state(outside)
    program = hostile.HOSTILE[name].format(**outside) + RIGHT
    started = time.monotonic()
    verdicts = pool.judge([Job(name, program, "f", "", TEST), Job("next", RIGHT, "f", "", TEST)])
    assert time.monotonic() - started < 12
    assert verdicts[0].kind != "unjudged", verdicts[0]
    assert verdicts[1].passed, "the worker must be as good as new"
    assert _state(outside) == before
    if pool.isolation.fresh_user:
        assert _processes_of(_users_of(pool)) == []


@pytest.fixture(scope="module")
def small_pool():
    bounds = SandboxSection(num_workers=1, cpu_seconds=0.2, wall_seconds=60.0, memory_bytes=1 << 28)
    with JudgePool(bounds) as pool:
        yield pool


@pytest.mark.parametrize("name", hostile.TOGETHER)
def test_what_all_processes_take_together_is_bounded(small_pool, name):
    kind, program = hostile.TOGETHER[name]
    (verdict,) = small_pool.judge([Job(name, program + RIGHT, "f", "", TEST, patience=1.0 if kind == "cpu" else 5.0)])
    assert verdict.kind == kind, verdict
    assert verdict.seconds < small_pool.limits.wall_seconds, "it was seen only when its time was up"


def test_memory_that_processes_share_counts_once(small_pool):
    program = (
        "import os, time\nkeep = b'x' * (80 << 20)\nfor _ in range(5):\n    if os.fork() == 0:\n"
        "        time.sleep(60)\ndef f(x):\n    time.sleep(0.5)\n    return 2 * x\n"
    )
    (verdict,) = small_pool.judge([Job("shares", program, "f", "", TEST, patience=5.0)])
    assert verdict.passed, verdict


def _users_of(pool):
    """The block of users that the pool's only worker has leased."""
    test = "def check(candidate):\n    assert False, candidate(1)\n"
    (verdict,) = pool.judge([Job("who", "import os\ndef f(x): return os.getuid()", "f", "", test)])
    user = int(verdict.detail.split()[-1])
    first = user - (user - 50_000) % 64
    return range(first, first + 64)


@pytest.mark.parametrize("name", hostile.READS)
def test_a_program_reads_nothing_of_others(pool, outside, name):
    program = f"def f(x):\n    return {hostile.READS[name].format(**outside)!s}\n"
    test = "CANARY = 'CANARY'\ndef check(candidate):\n    candidate(1)\n"
    (verdict,) = pool.judge([Job(name, program, "f", "", test)])
    assert verdict.kind == "failed", verdict
    assert verdict.detail.split(":")[0] in ("PermissionError", "FileNotFoundError", "IndexError"), verdict


def test_the_environment_is_clean(pool):
    program = "import os\ndef f(x): return sorted(os.environ), os.getcwd() == os.environ['HOME'], os.listdir('.')\n"
    names = ["HOME", "LANG", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONHASHSEED", "TMPDIR"]
    test = f"def check(candidate):\n    assert candidate(1) == ({names}, True, []), candidate(1)\n"
    (verdict,) = pool.judge([Job("job", program, "f", "", test)])
    assert verdict.passed, verdict


def test_each_program_has_a_user_of_its_own_where_we_are_root(pool):
    if os.geteuid() != 0:
        assert not pool.isolation.fresh_user
        return
    program = "import os\ndef f(x): return [os.getresuid(), os.getresgid(), os.getgroups()]\n"
    test = "def check(candidate):\n    assert False, candidate(1)\n"
    details = [verdict.detail for verdict in pool.judge([Job("job", program, "f", "", test)] * 3)]
    assert len(set(details)) == 3
    assert all(detail.endswith("[]]") for detail in details)


def test_nothing_is_left_behind(outside, monkeypatch):
    home = Path(tempfile.mkdtemp())
    home.chmod(0o755)
    monkeypatch.setenv("TMPDIR", str(home))
    with JudgePool(SandboxSection(num_workers=1, cpu_seconds=1.0, wall_seconds=2.0)) as pool:
        program = hostile.HOSTILE["leaves a trap in its folder"].format(**outside) + RIGHT
        assert pool.judge([Job("job", program, "f", "", TEST)])[0].passed
        assert len(os.listdir(home)) == 1
    assert os.listdir(outside["place"]) == ["secret"]
    home.rmdir()


def test_the_level_is_what_the_kernel_offers(pool):
    assert pool.isolation.level in LEVELS
    assert pool.isolation.landlock_abi == kernel.landlock_abi()
    assert pool.isolation.fresh_user == (os.geteuid() == 0)
    assert pool.isolation.namespaces == (subprocess.run(["unshare", "-n", "-i", "true"], check=False).returncode == 0)
    assert (pool.isolation.level == "landlock") == bool(pool.isolation.landlock_abi and pool.isolation.seccomp)


def test_the_check_shows_that_everything_is_denied(pool):
    isolation, attempts = selftest.check_sandbox(SandboxSection(num_workers=2))
    assert isolation == pool.isolation
    if isolation.level == "landlock":
        assert [attempt.what for attempt in attempts if not attempt.denied] == []


_AS_NOBODY = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from codelm.eval.judge import worker
library = worker.prepare_interpreter()
if os.geteuid() == 0 and sys.argv[3] == "nobody":
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
if sys.argv[2] != "landlock":
    worker.kernel.landlock_abi = lambda: 0
    worker.kernel.seccomp_supported = lambda: False
judge = worker.Worker(worker.Limits(wall_seconds=3.0, cpu_seconds=1.0), library)
print(json.dumps(judge.isolation.to_dict()), flush=True)
for line in sys.stdin:
    print(json.dumps(judge.judge(json.loads(line))), flush=True)
judge.close()
"""


def _apart(jobs, level, marker, user="nobody"):
    """What isolates a worker that has been told that less is to be had, and its verdicts."""
    root = Path(humaneval.__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-S", "-c", _AS_NOBODY, str(root), level, user, marker],
        input="".join(json.dumps(job.to_dict()) + "\n" for job in jobs),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    isolation, *verdicts = map(json.loads, done.stdout.splitlines())
    return isolation, verdicts


def test_an_ordinary_user_is_protected_from_programs_that_run_as_the_same_user(outside):
    if os.geteuid() == 0:
        # All of it belongs to the very user that programs run as.
        for path in (outside["place"], f"{outside['place']}/secret"):
            os.chown(path, 65534, 65534)
    before = _state(outside)
    names = [name for name in hostile.HOSTILE if name not in SLOW and "{victim}" not in hostile.HOSTILE[name]]
    jobs = [Job(name, hostile.HOSTILE[name].format(**outside) + RIGHT, "f", "", TEST) for name in names]
    jobs += [
        Job(name, f"def f(x):\n    return {action.format(**outside)!s}\n", "f", "", TEST)
        for name, action in hostile.READS.items()
    ]
    isolation, verdicts = _apart([*jobs, Job("last", RIGHT, "f", "", TEST)], "landlock", outside["place"])
    assert (isolation["level"], isolation["fresh_user"]) == ("landlock", False)
    assert [verdict["kind"] for verdict in verdicts[len(names) :]] == ["failed"] * len(hostile.READS) + ["passed"]
    assert _state(outside) == before
    assert [pid for pid in _processes_of({65534}) if _of_this_test(pid, outside)] == []


@pytest.mark.parametrize("name", ["TCP", "UDP", "an abstract socket"])
def test_without_landlock_and_seccomp_the_network_is_empty_where_it_can_be(outside, name):
    before = _state(outside)
    jobs = [
        Job(name, hostile.HOSTILE[name].format(**outside) + RIGHT, "f", "", TEST),
        Job("next", RIGHT, "f", "", TEST),
    ]
    isolation, (verdict, following) = _apart(jobs, "rlimits", outside["place"], user="root")
    if not isolation["namespaces"]:
        pytest.skip("no network namespace may be made here")
    assert isolation["level"] == "rlimits"
    assert verdict["kind"] == "failed", verdict
    assert verdict["detail"].split(":")[0] in ("OSError", "ConnectionRefusedError"), verdict
    assert following["kind"] == "passed"
    assert _state(outside) == before


@pytest.mark.parametrize("call", ["unshare({new})", "syscall({clone}, {new} | 17, 0, 0, 0, 0)"])
@pytest.mark.parametrize("new", [0x10000000, 0x50000000], ids=["user", "user and network"])
def test_a_program_makes_no_namespace(pool, call, new):
    if not pool.isolation.seccomp:
        pytest.skip("no seccomp here")
    call = call.format(new=new, clone=kernel._CLONE[platform.machine()])
    program = (
        f"import ctypes, os\nmade = ctypes.CDLL(None, use_errno=True).{call}\nmade or os._exit(0)\n"
        "def f(x): return made, ctypes.get_errno()\n"
    )
    test = "def check(candidate):\n    assert candidate(1) == (-1, 1), candidate(1)\n"
    (verdict,) = pool.judge([Job("job", program, "f", "", test)])
    assert verdict.passed, verdict


_AS_OURSELVES = """
import sys
sys.path.insert(0, sys.argv[1])
from codelm.eval.sandbox.confine import Limits, confine, make_ruleset, probe
status, isolation = open("/proc/self/status"), probe(fresh_user=False)
confine(Limits(), isolation, make_ruleset(isolation, [], [], "/"), None)
print(next(line.split()[1] for line in status if line.startswith("CapEff:")))
"""


def test_a_program_that_runs_as_root_has_its_power_over_files_alone():
    root = Path(humaneval.__file__).parents[3]
    command = [sys.executable, "-c", _AS_OURSELVES, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout, 16) & ~0b110 == 0


def _of_this_test(pid, outside):
    try:
        return outside["place"].encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_without_landlock_limits_and_judging_still_hold(problems, outside):
    jobs = [problem.job(problem.gold) for problem in problems[:20]]
    jobs += [
        Job("exit", "import os\ndef f(x): os._exit(0)", "f", "", TEST),
        Job("spin", "def f(x):\n    while True: pass", "f", "", TEST),
        Job("memory", "def f(x): return bytearray(4 << 30)", "f", "", TEST),
        Job("peek", "import os\ndef f(x): return len(open(f'/proc/{os.getppid()}/mem', 'rb').read(1))", "f", "", TEST),
        Job("daemon", hostile.HOSTILE["leaves a daemon"] + RIGHT, "f", "", TEST),
    ]
    isolation, verdicts = _apart(jobs, "rlimits", outside["place"])
    assert isolation["level"] == "rlimits"
    kinds = [verdict["kind"] for verdict in verdicts]
    assert kinds == ["passed"] * 20 + ["never-finished", "cpu", "memory", "failed", "passed"]
    assert [pid for pid in _processes_of({65534}) if _of_this_test(pid, outside)] == []
