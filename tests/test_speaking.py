"""How recipes end and speak where a person looks on: pipes that close, Ctrl-C, log lines beside a bar."""

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tqdm import tqdm

from codelm.console import setup_logging
from codelm.errors import exit_on_error


def test_a_reader_that_has_had_enough_is_no_error():
    program = "from codelm.errors import exit_on_error\nexit_on_error(lambda: [print('x' * 99999) for _ in range(9)])()"
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-c", program], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.fixture
def _signals_as_they_were() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals_as_they_were")
@pytest.mark.parametrize("raised", [KeyboardInterrupt(), SystemExit(130)])
def test_ctrl_c_is_one_word_and_exit_code_130(raised, capsys):
    def main():
        raise raised

    with pytest.raises(SystemExit) as ended:
        exit_on_error(main)()
    assert (ended.value.code, capsys.readouterr().err) == (130, "\ninterrupted\n")


@pytest.mark.parametrize(("sent", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_that_finds_python_in_a_finaliser_is_not_lost(sent: str, code: int, word: str) -> None:
    program = f"""
import os, signal, time
from codelm.errors import exit_on_error
from codelm.interruption import end_in_order_on_sigterm

class Passing:
    def __del__(self):
        os.kill(os.getpid(), signal.{sent})

@exit_on_error
def main():
    end_in_order_on_sigterm()
    Passing()
    time.sleep(60)

main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"\n{word}\n")


LOGS_AND_WORKS = """
import logging, sys
from codelm.console import setup_logging
from codelm.errors import exit_on_error
from tqdm import tqdm

@exit_on_error
def main():
    setup_logging()
    for batch in tqdm(range(3), mininterval=0):
        logging.getLogger("codelm").info("batch %d", batch)
        print("x" * 99999, file=sys.stderr)
    with open(sys.argv[1], "w") as file:
        file.write("done")
    print("done")

main()
"""


@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(exit)", "2>&1 >&3 | sleep 0"])
def test_a_log_that_is_lost_costs_its_lines_and_not_the_work(stderr: str, tmp_path: Path) -> None:
    command = f'exec 3>&1; set -o pipefail; "$0" -c "$1" "$2" {stderr}'
    work = tmp_path / "work"
    done = subprocess.run(
        ["bash", "-c", command, sys.executable, LOGS_AND_WORKS, work], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, work.read_text()) == (0, "done\n", "done")


def test_an_error_keeps_its_exit_code_where_nobody_can_read_of_it() -> None:
    program = """
from codelm.errors import ConfigError, exit_on_error

@exit_on_error
def main():
    raise ConfigError("no such key")

main()
"""
    for stderr in ("2>/dev/full", "2>&-"):
        assert subprocess.run(["bash", "-c", f'"$0" -c "$1" {stderr}', sys.executable, program]).returncode == 2


def test_no_file_takes_the_number_of_a_stream_that_is_closed(tmp_path: Path) -> None:
    program = """
import subprocess, sys
from codelm.errors import exit_on_error

@exit_on_error
def main():
    with open(sys.argv[1], "w") as file:
        print("lost", flush=True)
        print("lost", file=sys.stderr, flush=True)
        subprocess.run(["sh", "-c", "echo lost; echo lost >&2"], check=True)
        file.write(f"{sys.stdin.read()}kept")

main()
"""
    file = tmp_path / "file"
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" "$2" <&- >&- 2>&-', sys.executable, program, file], check=False)
    assert (done.returncode, file.read_text()) == (0, "kept")


@pytest.mark.parametrize(
    ("stdout", "why"), [(">/dev/full", "No space left on device"), ("> >(exit)", "Broken pipe"), (">&-", None)]
)
def test_the_last_word_of_a_run_cannot_make_it_fail(stdout: str, why: str | None) -> None:
    program = """
import time
from codelm.console import announce
from codelm.errors import exit_on_error

exit_on_error(lambda: [time.sleep(0.5), announce("trained: ba8")])()
"""
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {stdout}', sys.executable, program], capture_output=True, text=True, check=False
    )
    said = f"trained: ba8 (said here, for stdout failed: {why})\n" if why else ""
    assert (done.returncode, done.stderr) == (0, said)


@pytest.mark.parametrize(
    ("first", "second", "code", "word"),
    [
        ("SIGINT", "SIGINT", 130, "interrupted"),
        ("SIGINT", "SIGTERM", 130, "interrupted"),
        ("SIGTERM", "SIGTERM", 143, "terminated"),
        ("SIGTERM", "SIGINT", 143, "terminated"),
    ],
)
def test_a_second_signal_while_the_process_ends_is_no_traceback(first: str, second: str, code: int, word: str) -> None:
    program = """
import atexit, time
from codelm.errors import exit_on_error
from codelm.interruption import end_in_order_on_sigterm

@atexit.register
def end():
    print("ending", flush=True)
    time.sleep(1)
    print("ended", flush=True)

@exit_on_error
def main():
    end_in_order_on_sigterm()
    print("begun", flush=True)
    time.sleep(60)

main()
"""
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.Signals[first])
        assert process.stdout.readline() == "ending\n"
        process.send_signal(signal.Signals[second])
        printed, said = process.communicate(timeout=30)
    # Ctrl-C is from somebody who does not want to wait.
    assert printed == ("" if second == "SIGINT" else "ended\n")
    assert (process.returncode, said) == (code, f"\n{word}\n")


@pytest.mark.parametrize(("sent", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
@pytest.mark.parametrize("kind", ["ImportError('datetime')", "DataError('no reader')"])
def test_a_signal_of_which_an_import_makes_another_error_is_none_the_less_one(
    sent: str, code: int, word: str, kind: str
) -> None:
    """As numpy's C code does: `PyCapsule_Import could not import module "datetime"`."""
    program = f"""
import os, signal
from codelm.errors import DataError, exit_on_error
from codelm.interruption import end_in_order_on_sigterm

@exit_on_error
def main():
    end_in_order_on_sigterm()
    try:
        os.kill(os.getpid(), signal.{sent})
    except BaseException:
        raise {kind} from None

main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", f"\n{word}\n")


def test_what_else_a_finaliser_raises_is_said_as_ever(monkeypatch) -> None:
    class Broken:
        def __del__(self) -> None:
            raise ValueError("torn")

    said: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda dropped: said.append(str(dropped.exc_value)))
    exit_on_error(lambda: [Broken()].clear())()
    assert said == ["torn"]


def test_a_log_line_is_not_written_into_a_bar(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers)
    level, codelm_level = root.level, logging.getLogger("codelm").level
    try:
        setup_logging()
        with tqdm(total=2, file=screen) as bar:
            bar.update()
            logging.getLogger("codelm").info("saved")
    finally:
        root.setLevel(level)
        logging.getLogger("codelm").setLevel(codelm_level)
    (line,) = (line for line in screen.getvalue().splitlines() if "saved" in line)
    assert line.rsplit("\r", 1)[-1].endswith(" saved")
    assert "it/s" not in line.rsplit("\r", 1)[-1]
