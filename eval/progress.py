"""Progress of the stages on stderr: a bar in a terminal, a line every few seconds elsewhere."""

import sys
import time
from typing import Any, Self

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 15.0
_TITLES = {"generate": "generate", "judge": "judge", "gold": "gold solutions"}


class ProgressBars:
    """Shows `progress(stage, done, total)`."""

    def __init__(self, shown: bool = True) -> None:
        self._shown = shown
        self._bar: Any = None
        self._stage = ""
        self._last_line = 0.0
        self._terminal = sys.stderr.isatty()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._shown or not total:
            return
        title = _TITLES.get(stage, stage)
        if stage != self._stage:
            self.close()
            self._stage, self._last_line = stage, time.monotonic()
            if self._terminal:
                self._bar = tqdm(desc=f"{title:<16}", total=total, initial=done, file=sys.stderr)
        if self._bar is not None:
            self._bar.update(done - self._bar.n)
        elif done == total or time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            print(f"{title}: {done} of {total}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar that is shown."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
