"""The judge where a container leaves it little: Docker's default capabilities and filter of system calls; root only."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import codelm
from codelm.eval.judge.verdict import Job
from codelm.eval.programs import samples

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs root")

ROOT = str(Path(codelm.__file__).parents[1])
LIMITS = {"wall_seconds": 60.0, "cpu_seconds": 5.0}
RIGHT = "def f(x): return 2 * x\n"
TEST = "def check(candidate):\n    assert candidate(2) == 4\n"

# Sources: moby `profiles/seccomp/default.json` (what is allowed without CAP_SYS_ADMIN) and `oci/caps/defaults.go`.
_IN_DOCKER = """
import json, os, platform, sys
sys.path.insert(0, sys.argv[1])
from codelm.eval.judge import worker as judge
from codelm.eval.programs import worker as programs
from codelm.eval.sandbox import capabilities, kernel
from codelm.eval.sandbox.confine import Limits

ours = kernel._DENIED[platform.machine()]
theirs = (
    "unshare setns mount umount2 pivot_root fsopen open_tree move_mount mount_setattr open_by_handle_at bpf syslog"
    " perf_event_open userfaultfd add_key request_key keyctl fanotify_init acct swapon reboot init_module finit_module"
    " kexec_load kexec_file_load io_uring_setup io_uring_enter io_uring_register"
).split()
kernel._DENIED[platform.machine()] = {name: ours[name] for name in theirs}
kernel.seccomp_restrict(same_user=False, confine_signals=False)
kernel._DENIED[platform.machine()] = ours
kept = [0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31]
for capability in set(range(41)) - set(kept):
    capabilities._prctl(24, capability)
capabilities._set(sum(1 << capability for capability in kept), 0)

settings = json.loads(sys.stdin.readline())
if "toolchain" in settings:
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    judge.serve(programs.Worker(Limits(**settings["limits"]), settings["toolchain"]))
else:
    judge.serve(judge.Worker(Limits(**settings["limits"]), judge.prepare_interpreter()))
"""


def judged_in_docker(jobs, **settings):
    """What holds there, and the verdicts."""
    lines = [{"limits": LIMITS, **settings}, *(job.to_dict() for job in jobs)]
    done = subprocess.run(
        [sys.executable, "-S", "-P", "-c", _IN_DOCKER, ROOT],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    hello, *verdicts = map(json.loads, done.stdout.splitlines())
    return hello["isolation"], verdicts


def test_programs_of_python_are_judged_as_ever():
    peek = "import os\ndef f(x): return len(open(f'/proc/{os.getppid()}/environ').read())\n"
    programs = {"right": RIGHT, "wrong": "def f(x): return x", "peek": peek, "exit": "import os\nos._exit(0)"}
    isolation, verdicts = judged_in_docker([Job(name, text, "f", "", TEST) for name, text in programs.items()])
    assert (isolation["level"], isolation["fresh_user"], isolation["namespaces"]) == ("landlock", True, False)
    assert [verdict["kind"] for verdict in verdicts] == ["passed", "failed", "failed", "never-finished"]


@pytest.fixture
def private_toolchain(tmp_path):
    """Bash in a folder that is closed to other users."""
    bash = tmp_path / "private" / "bin" / "bash"
    bash.parent.mkdir(parents=True)
    shutil.copy(os.path.realpath("/bin/bash"), bash)
    (tmp_path / "private").chmod(0o700)
    run = {"compile": [], "run": [str(bash), "program.sh"], "environment": {}, "programs": [str(bash)]}
    return {"name": "sh", "file": "program.sh", **run}


def test_an_interpreter_in_a_private_folder_works_without_the_power_to_read_all(private_toolchain, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    problem = samples.problem("sh")
    thief = f"    read -r word < {secret} && echo reached && return\n{problem.gold}"
    jobs = [problem.job(text) for text in (problem.gold, thief, "    echo 0\n")]
    isolation, verdicts = judged_in_docker(jobs, toolchain=private_toolchain)
    assert (isolation["level"], isolation["fresh_user"]) == ("landlock", False)
    assert [verdict["kind"] for verdict in verdicts] == ["passed", "passed", "failed"], verdicts
