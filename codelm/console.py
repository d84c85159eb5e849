"""How recipes speak: log lines on stderr, coloured where a terminal reads them, from rank 0 alone.

A log that nobody can read any more (a pipe that closed, a full disk, a terminal that is gone) costs its lines, never
the work that they tell of.
"""

import io
import logging
import os
import sys
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_COLOURS = {logging.WARNING: "\033[33m", logging.ERROR: "\033[31m", logging.CRITICAL: "\033[31m"}


class _Formatter(logging.Formatter):
    def __init__(self, colour: bool) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%H:%M:%S")
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if record.levelno >= logging.WARNING:
            line = line.replace(" ", f" {record.levelname.lower()}: ", 1)
        if self.colour and record.levelno in _COLOURS:
            line = f"{_COLOURS[record.levelno]}{line}\033[0m"
        return line


class _Handler(logging.StreamHandler):
    """Writes on lines of its own: a progress bar that tqdm is drawing is taken away first and drawn again after."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
        with bars.external_write_mode(file=self.stream) if bars else nullcontext():
            super().emit(record)


class _LosesWhatItCannotWrite(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        with suppress(OSError):
            written = super().write(data)
            if written is not None:  # None: a terminal that somebody made non-blocking, and that is full
                return written
        return memoryview(data).nbytes


def prepare_streams() -> None:
    """Make stdin, stdout and stderr safe to use, whatever the shell made of them; nothing where they are replaced."""
    _open_closed_streams()
    # A name with bytes that are no text, or a locale without …, must not end a run with a traceback.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # Here, and not where something is said: logging, tqdm, warnings and all packages write to it.
    if sys.stderr is sys.__stderr__ and isinstance(sys.stderr, io.TextIOWrapper):
        file = io.BufferedWriter(_LosesWhatItCannotWrite(sys.stderr.fileno(), "w", closefd=False))
        sys.stderr = io.TextIOWrapper(file, sys.stderr.encoding, sys.stderr.errors, line_buffering=True)


def _open_closed_streams() -> None:
    """Open /dev/null for each that is closed (`2>&-`): the next file opened would have its number, and get the lines.

    Python has put None in their places.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, the stream stays as long as the process


def say_at_once(text: str) -> None:
    """Write to stderr past Python's buffers and the locks of logging, which a stuck or interrupted thread may hold."""
    with suppress(OSError):
        os.write(2, text.encode())


def announce(line: str) -> None:
    """Print the last word of a recipe whose work is on the disk: stdout may be full or closed, the work is done."""
    try:
        print(line, flush=True)
    except OSError as error:
        silence_stdout()
        print(f"{line} (said here, for stdout failed: {error.strerror})", file=sys.stderr)


def silence_stdout() -> None:
    """Lead stdout nowhere: what its buffer holds would fail once more at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def is_rank_zero() -> bool:
    """Whether this process is the only one, or the one that speaks for all."""
    return int(os.environ.get("RANK", "0")) == 0


def setup_logging() -> None:
    """Show codelm's own log lines from INFO on, everyone else's from ERROR on; other ranks stay silent.

    Call it before torch and transformers are imported: that is when they read how much to say and draw.
    """
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    # torch warns of each lost connection in 20 lines of C++ frames, over the one that says which rank failed.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    handler = _Handler(sys.stderr)
    handler.setFormatter(_Formatter(colour=sys.stderr.isatty() and "NO_COLOR" not in os.environ))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.ERROR)
    logging.getLogger("codelm").setLevel(logging.INFO if is_rank_zero() else logging.CRITICAL)
