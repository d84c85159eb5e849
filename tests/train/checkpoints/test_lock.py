"""Two runs cannot write to one folder; a dead one holds nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codelm.errors import EnvironmentFailure
from codelm.train.checkpoints.lock import only_run_in

HOLDER = """
import sys, time, multiprocessing
from pathlib import Path
from codelm.train.checkpoints.lock import only_run_in
with only_run_in(Path(sys.argv[1])):
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_run_is_refused_until_the_first_is_dead_though_its_workers_live_on(tmp_path: Path) -> None:
    first = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    worker = int(first.stdout.readline())
    try:
        with (
            pytest.raises(EnvironmentFailure, match=rf"in use by another run \(process {first.pid} on .*\); wait for"),
            only_run_in(tmp_path, patience=0.3),
        ):
            pass
        first.kill()
        first.wait()
        with only_run_in(tmp_path, patience=0.3):
            os.kill(worker, 0)
    finally:
        first.kill()
        os.kill(worker, signal.SIGKILL)
