"""Composer's launcher over forked ranks, so that torch and Composer are imported once for many launches.

`python forked.py` reads requests, a JSON object a line, and answers with the exit code when the launch has ended. The
launcher's own functions watch the ranks, end them, print what they said, and choose the code.
"""

import atexit
import json
import os
import runpy
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from codelm.console import setup_logging

setup_logging()

from composer import Callback, Logger, State  # noqa: E402
from composer.cli import launcher  # noqa: E402
from composer.utils import dist  # noqa: E402

from codelm.config.train import TrainConfig  # noqa: E402
from codelm.errors import DataError, exit_on_error  # noqa: E402
from codelm.model.fast_tokenizer import write_fast_tokenizer  # noqa: E402
from codelm.tokenizer import CodeTokenizer  # noqa: E402
from codelm.train import run  # noqa: E402
from codelm.train.roll_backs import RolledBack  # noqa: E402


def boom() -> None:
    raise ValueError("boom")


def refuse() -> None:
    raise DataError("the shard is gone; copy it again")


def signal_and_roll_back() -> None:
    """A signal on the last rank alone, and at once, once, a roll-back on all."""
    if STRUCK:
        return
    STRUCK.append(True)
    if dist.get_global_rank() == dist.get_world_size() - 1:
        os.kill(os.getpid(), signal.SIGTERM)
    raise RolledBack("back to the checkpoint before")


STRUCK: list[bool] = []
STRIKES: dict[str, Callable[[], Any]] = {
    "raise": boom,
    "refuse": refuse,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "leave without a word": lambda: os._exit(0),
    "hang": lambda: time.sleep(1e6),
    "stop itself": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "SIGINT": lambda: os.kill(os.getpid(), signal.SIGINT),
    "SIGTERM and a roll-back": signal_and_roll_back,
    "SIGTERM to the launcher": lambda: os.kill(os.getppid(), signal.SIGTERM),
}


class Fault(Callback):
    """Strikes some ranks in one batch: {"ranks": [1], "batch": 5, "kind": "raise"}; `struck` says when."""

    def __init__(self, fault: dict[str, Any], folder: Path) -> None:
        self.fault = fault
        self.folder = folder

    def batch_start(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch) + 1 == self.fault["batch"] and dist.get_global_rank() in self.fault["ranks"]:
            (self.folder / "struck").write_text(str(time.time()))
            STRIKES[self.fault["kind"]]()


class Forked:
    """What the launcher needs of a subprocess.Popen."""

    def __init__(self, pid: int, output: IO[str] | None, errors: IO[str] | None) -> None:
        self.pid = pid
        self.args = ["rank"]
        self.stdout = output
        self.stderr = errors
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def one_rank(request: dict[str, Any], rank: int, output: IO[str] | None, errors: IO[str] | None) -> Forked:
    pid = os.fork()
    if pid:
        return Forked(pid, output, errors)
    world = request["world_size"]
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ |= {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_PORT": str(request["port"])}
    if output is not None and errors is not None:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
    as_a_process(exit_on_error(lambda: train(request) if "settings" in request else run_script(request)))
    raise AssertionError("unreachable")


def run_script(request: dict[str, Any]) -> None:
    """As `python script arguments`."""
    script = request["script"]
    sys.argv = [script, *request["arguments"]]
    sys.path.insert(0, str(Path(script).parent))
    runpy.run_path(script, run_name="__main__")


def train(request: dict[str, Any]) -> None:
    setup_logging()
    if request.get("fault") is not None:
        usual = run.build_callbacks
        run.build_callbacks = lambda *given: [*usual(*given), Fault(request["fault"], Path(request["folder"]))]
    run.train(TrainConfig.model_validate(request["settings"]))


def launch(request: dict[str, Any]) -> None:
    """As composer.cli.launcher's main."""
    processes: dict[int, Any] = {}
    folder = Path(request["folder"])
    try:
        for rank in range(request["world_size"]):
            files = (None, None) if rank == 0 else [(folder / f"{rank}.{name}").open("a+") for name in ("out", "err")]
            processes[rank] = one_rank(request, rank, *files)
        (folder / "pids").write_text(json.dumps([process.pid for process in processes.values()]))
        launcher._monitor_processes(processes)
    except BaseException:
        traceback.print_exc()
    finally:
        launcher._cleanup_processes(processes)
    sys.exit(launcher._aggregate_process_returncode(processes))


def as_a_process(main: Callable[[], None]) -> None:
    """End as a script would."""
    code: Any = 1
    try:
        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code & 0xFF)


def warm_up(tokenizer: str, warm: set[str]) -> None:
    """What the first save of a process does once: a second or two."""
    if tokenizer not in warm:
        with tempfile.TemporaryDirectory() as folder:
            exact = CodeTokenizer(Path(tokenizer))
            exact.save(Path(folder))
            write_fast_tokenizer(exact, Path(folder), 256)
        warm.add(tokenizer)


def serve() -> None:
    answers = os.dup(1)
    warm: set[str] = set()
    for line in sys.stdin:
        request = json.loads(line)
        folder = Path(request["folder"])
        if "settings" in request:
            warm_up(request["settings"]["tokenizer"]["path"], warm)
        pid = os.fork()
        if pid == 0:
            file = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            as_a_process(lambda request=request: launch(request))
        (folder / "launcher").write_text(str(pid))
        _, status = os.waitpid(pid, 0)
        os.write(answers, f"{os.waitstatus_to_exitcode(status)}\n".encode())


if __name__ == "__main__":
    serve()
