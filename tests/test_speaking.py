"""How recipes end and speak where a person looks on: pipes that close, Ctrl-C, log lines beside a bar."""

import io
import logging
import os
import subprocess
import sys

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
