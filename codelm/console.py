"""How recipes speak: log lines on stderr, coloured where a terminal reads them, from rank 0 alone."""

import logging
import os
import sys
from contextlib import nullcontext

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
