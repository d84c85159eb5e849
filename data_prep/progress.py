"""Progress of the stages on stderr: a bar in a terminal, a line every few seconds elsewhere."""

import sys
import time
from typing import Any, Self

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0
_UNITS = {"list files": " files", "near duplicates": " steps"}
"""Of the stages that do not count bytes."""
# It tells nothing until it is done.
_NO_PROGRESS = "SentencePiece takes 2 to 4 s a MB"


class ProgressBars:
    """Shows `progress(stage, done, total)`: MB and MB/s with the remaining time; files where the total is unknown."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""
        self._started = self._last_line = 0.0
        self._terminal = sys.stderr.isatty()

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        if stage != self._stage:
            self._finish()
            self._begin(stage, done, total)
        if self._terminal:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        elif total == done or time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._print_line(stage, done, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()

    def _begin(self, stage: str, done: int, total: int | None) -> None:
        self._stage, self._started = stage, time.monotonic()
        self._last_line = self._started
        if self._terminal:
            unit = _UNITS.get(stage, "B")
            self._bar = tqdm(desc=f"{stage:<15}", total=total, unit=unit, unit_scale=True, file=sys.stderr)
            if stage == "train tokenizer":
                self._bar.set_postfix_str(_NO_PROGRESS)
        elif stage == "train tokenizer" and total is not None and done < total:
            print(f"{stage}: on {total / 1e6:.1f} MB; {_NO_PROGRESS}", file=sys.stderr, flush=True)

    def _finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _print_line(self, stage: str, done: int, total: int | None) -> None:
        self._last_line = time.monotonic()
        seconds = max(self._last_line - self._started, 1e-3)
        if stage in _UNITS:
            text = f"{done:,}{'' if total in (None, done) else f' of {total:,}'}{_UNITS[stage]}"
        elif total is None:
            text = f"{done / 1e6:.1f} MB"
        else:
            left = f", {(total - done) / (done / seconds):.0f} s left" if 0 < done < total else ""
            text = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB in {seconds:.0f} s{left}"
        print(f"{stage}: {text}", file=sys.stderr, flush=True)
