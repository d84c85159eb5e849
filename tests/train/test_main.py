"""train/main.py as a process: its log is lost, its stdout is full, signals come in twos or before it has imported."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]

Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin(train_settings: dict[str, Any], tmp_path: Path) -> Begin:
    """Start a run of small batches with the shell's redirections; its stdout is a pipe, its stderr `run.err`."""

    def start(redirections: str = "", **changes: Any) -> subprocess.Popen[str]:
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump({**train_settings, "eval_data": {}, "save_interval": "1000ba", **changes}))
        command = ["bash", "-c", f'exec "$0" "$@" {redirections}', sys.executable, ROOT / "train" / "main.py", file]
        with (tmp_path / "run.err").open("w") as errors:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)

    return start


def wait_for(process: subprocess.Popen[str], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_whose_log_nobody_reads_goes_on_and_saves_at_sigterm(begin: Begin, tmp_path: Path) -> None:
    metrics = tmp_path / "checkpoints" / "metrics.jsonl"
    with begin("2> >(head -n 3 >/dev/null)", max_duration="100000ba") as process:
        wait_for(process, lambda: metrics.exists() and metrics.read_text().count("\n") > 20)
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    assert process.returncode == 143
    assert (tmp_path / "checkpoints" / "latest" / "model.safetensors").exists()


def test_a_run_with_no_log_and_a_full_stdout_is_a_whole_run(begin: Begin, tmp_path: Path) -> None:
    with begin("2>&- >/dev/full") as process:
        process.wait(120)
    assert process.returncode == 0
    assert (tmp_path / "checkpoints" / "latest").resolve().name == "ba000008"


@pytest.mark.parametrize(
    ("when", "sent"),
    [
        ("parameters", signal.SIGINT),
        pytest.param("parameters", signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param("saved ", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("saved ", signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_two_signals_outside_training_are_no_traceback(
    begin: Begin, tmp_path: Path, when: str, sent: signal.Signals
) -> None:
    said = tmp_path / "run.err"
    with begin() as process:
        wait_for(process, lambda: when in said.read_text())
        process.send_signal(sent)
        time.sleep(0.05)
        process.send_signal(sent)
        process.wait(60)
    assert "Traceback" not in said.read_text()
    # A shell makes one of the two; the very end of Python leaves Ctrl-C to the system.
    assert process.returncode in (128 + sent, -signal.SIGINT)


@pytest.mark.parametrize("library", ["_socket", "libtorch_cpu"])
def test_ctrl_c_while_it_imports_is_one_word(begin: Begin, tmp_path: Path, library: str) -> None:
    with begin() as process:
        wait_for(process, lambda: library in Path(f"/proc/{process.pid}/maps").read_text())
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert (process.returncode, (tmp_path / "run.err").read_text()) == (130, "\ninterrupted\n")
