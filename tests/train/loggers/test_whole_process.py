"""From a process's start to its exit: no service that is away, hangs or is killed holds up a run's end."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

_RUN = """
    import logging, os, signal, sys, threading, time
    from pathlib import Path
    from types import SimpleNamespace

    import psutil

    from codelm.config.training.loggers import WandbSection
    from codelm.train.loggers.destination import RunInfo
    from codelm.train.loggers.steadfast import SteadfastLogger, ended_early
    from codelm.train.loggers.wandb_run import wandb_rescue, wandb_run

    logging.basicConfig(format="%(message)s")
    folder, mode, what = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    section = WandbSection(project="p", mode=mode)
    # What is to be late is late in seconds; what is not may take its time on a busy machine.
    late = mode == "online"
    logger = SteadfastLogger(
        "wandb", wandb_run(section, folder, finish_seconds=1.0 if late else 60.0), RunInfo("a-run", {"seed": 17}),
        wandb_rescue(section, folder), retry_seconds=0.1,
        close_within=3.0 if late else 60.0, keep_within=60.0,
    )

    def batches(first, last):
        for batch in range(first, last + 1):
            logger.log_metrics({"loss": 1.0 / batch})
            logger.batch_end(SimpleNamespace(timestamp=SimpleNamespace(batch=batch)), None)

    def opened():
        while getattr(sys.modules.get("wandb"), "run", None) is None:
            time.sleep(0.1)

    with ended_early([logger], within=float(sys.argv[4])):
        logger.init(None, None)
        batches(1, 10)
        if what == "kill":
            opened()
            for child in psutil.Process().children():
                child.kill()
        elif what == "wait":
            opened()
            print("ready", flush=True)
            sys.stdin.readline()
        elif what == "ask twice":
            signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
            while "wandb" not in sys.modules:
                time.sleep(0.1)
            threading.Timer(3.0, os.kill, (os.getpid(), signal.SIGINT)).start()
            sys.exit(130)
        elif what == "exit":
            sys.exit(143)
        elif what == "raise":
            raise ValueError("the run's own")
        batches(11, 20)
        logger.post_close()
    print("trained", flush=True)
"""


class _Ended(NamedTuple):
    code: int
    seconds: float
    """From the run's own end to the process's, and what it takes to start one."""
    out: str
    error: str


def _environment(service: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return {**kept, "WANDB_BASE_URL": service, "WANDB_API_KEY": "a" * 40, "WANDB_ERROR_REPORTING": "false"}


def _ended(folder: Path, mode: str, what: str, patience: float = 3.0) -> _Ended:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_RUN), str(folder), mode, what, str(patience)],
        env=_environment("http://127.0.0.1:9"), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    return _Ended(done.returncode, time.monotonic() - began, done.stdout, done.stderr)


def _batches(folder: Path) -> list[int]:
    """Those that `wandb sync` would find in a folder, by wandb's own reader."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportAttributeAccessIssue]
    from wandb.sdk.internal.datastore import DataStore

    found = []
    for file in sorted(folder.rglob("*.wandb")):
        store = DataStore()
        store.open_for_scan(str(file))
        while (data := store.scan_data()) is not None:
            record = Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            found += [int(items["batch"])] if "batch" in items else []
    return found


def test_a_healthy_wandb_writes_everything_and_says_nothing(tmp_path: Path) -> None:
    ended = _ended(tmp_path, "offline", "go on")
    assert (ended.code, ended.out, ended.error) == (0, "trained\n", "")
    assert _batches(tmp_path) == [*range(1, 21)]


def test_a_service_that_cannot_be_reached_holds_up_no_exit_and_costs_no_row(tmp_path: Path) -> None:
    ended = _ended(tmp_path, "online", "go on")
    assert (ended.code, ended.out) == (0, "trained\n")
    assert ended.seconds < 180
    assert "Traceback" not in ended.error
    last = ended.error.splitlines()[-1]
    assert last.startswith("loggers.wandb did not finish within 3 s; 20 rows are kept: `wandb sync ")
    assert _batches(Path(last.split("`")[1].removeprefix("wandb sync "))) == [*range(1, 21)]


def test_wandbs_process_killed_in_the_midst_is_replaced_and_leaves_no_traceback(tmp_path: Path) -> None:
    ended = _ended(tmp_path, "offline", "kill")
    assert (ended.code, ended.out) == (0, "trained\n")
    assert "Traceback" not in ended.error
    assert "loggers.wandb failed, training goes on without it: " in ended.error
    assert _batches(tmp_path)[-10:] == [*range(11, 21)]


@pytest.mark.parametrize(
    ("what", "code", "last"), [("exit", 143, "loggers.wandb"), ("raise", 1, "ValueError: the run")]
)
def test_a_run_that_ends_before_its_time_waits_no_longer_and_keeps_its_code(
    what: str, code: int, last: str, tmp_path: Path
) -> None:
    ended = _ended(tmp_path, "online", what)
    assert (ended.code, ended.out) == (code, "")
    assert ended.seconds < 180
    assert ended.error.splitlines()[-1].startswith(last)
    assert "loggers.wandb did not finish within 3 s; 10 rows are kept: `wandb sync " in ended.error
    assert _batches(tmp_path) == [*range(1, 11)]


def test_one_who_asks_again_waits_no_longer(tmp_path: Path) -> None:
    ended = _ended(tmp_path, "online", "ask twice", patience=50.0)
    assert (ended.code, ended.out) == (130, "")
    assert ended.seconds < 40
    assert "Traceback" not in ended.error
    assert "loggers.wandb" not in ended.error
    assert _batches(tmp_path) == []


class _Service(BaseHTTPRequestHandler):
    """What wandb's service answers to a run, until it hangs."""

    protocol_version = "HTTP/1.1"
    hangs: threading.Event
    over: threading.Event
    history: list[dict[str, Any]]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.hangs.is_set():
            self.over.wait(60)
        if self.path.endswith("/file_stream"):
            lines = asked.get("files", {}).get("wandb-history.jsonl", {}).get("content", [])
            self.history.extend(json.loads(line) for line in lines)
            self._send({})
            return
        project = {"id": "1", "name": "p", "entity": {"id": "1", "name": "octo"}}
        name = (asked.get("variables") or {}).get("name")
        bucket = {"id": "1", "name": name, "displayName": "a-run", "config": "{}", "project": project}
        known = {
            "upsertBucket": {"bucket": bucket, "inserted": True},
            "viewer": {"id": "1", "entity": "octo", "username": "octo", "flags": "{}", "teams": {"edges": []}},
            "serverInfo": {"features": []},
            "createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []},
        }
        self._send({"data": {"model": None, "project": None, **known}})

    def do_GET(self) -> None:
        self._send({})

    def _send(self, answer: dict[str, Any]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def service() -> Iterator[tuple[str, type[_Service]]]:
    handler = type("Service", (_Service,), {"hangs": threading.Event(), "over": threading.Event(), "history": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    handler.over.set()
    server.shutdown()


def test_what_a_service_that_hangs_has_not_taken_can_be_sent_later(
    service: tuple[str, type[_Service]], tmp_path: Path
) -> None:
    address, handler = service
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_RUN), str(tmp_path), "online", "wait", "3.0"],
        env=_environment(address), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        handler.hangs.set()
        out, error = process.communicate("\n", timeout=240)
    finally:
        process.kill()
    assert (process.returncode, out) == (0, "trained\n")
    assert "Traceback" not in error
    (said,) = [line for line in error.splitlines() if line.startswith("loggers.wandb")]
    assert said.startswith("loggers.wandb: not all was sent within 1 s; `wandb sync ")

    handler.over.set()
    handler.hangs.clear()
    handler.history.clear()
    sync = [str(Path(sys.executable).with_name("wandb")), *said.split("`")[1].split()[1:]]
    subprocess.run(sync, env=_environment(address), check=True, capture_output=True, timeout=240)
    assert [row["batch"] for row in handler.history] == [*range(1, 21)]


def test_a_disk_that_takes_no_events_costs_a_warning_and_no_traceback(tmp_path: Path) -> None:
    script = """
        import logging, resource, signal, sys
        from pathlib import Path
        from types import SimpleNamespace

        from codelm.train.loggers.destination import RunInfo
        from codelm.train.loggers.steadfast import SteadfastLogger
        from codelm.train.loggers.tensorboard import tensorboard

        logging.basicConfig(format="%(message)s")
        logger = SteadfastLogger("tensorboard", tensorboard(Path(sys.argv[1])), RunInfo("a-run", {}), retry_seconds=0.1)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        logger.init(None, None)
        logger.log_metrics({"loss": 1.0})
        logger.batch_end(SimpleNamespace(timestamp=SimpleNamespace(batch=1)), None)
        logger.post_close()
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "loggers.tensorboard failed (OSError: [Errno 27] File too large); 1 rows were not written" in done.stderr
