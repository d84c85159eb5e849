"""TensorBoard's event files."""

import threading
from pathlib import Path
from typing import Any

from codelm.train.loggers.destination import Destination, Opener, Row, RunInfo


class _EventFiles:
    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        _say_once()
        self.writer: Any = SummaryWriter(str(folder))

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            for name, value in row.metrics.items():
                self.writer.add_scalar(name, value, row.batch, row.seconds)
            for name, table in row.tables.items():
                # As code: TensorBoard reads texts as Markdown.
                texts = ("\n".join(map(str, cells)).replace("\n", "\n    ") for cells in table.rows)
                self.writer.add_text(name, "\n\n".join(f"    {text}" for text in texts), row.batch)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


def tensorboard(folder: Path) -> Opener:
    """Write into a folder that `tensorboard --logdir` reads."""

    def open_(run: RunInfo) -> Destination:
        return _EventFiles(folder)

    return open_


def _say_once() -> None:
    """Print no traceback when TensorBoard's own thread fails, as on a full disk: its next call raises the same here."""
    before = threading.excepthook
    if getattr(before, "says_once", False):
        return

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            before(failed)

    hook.says_once = True  # pyright: ignore[reportFunctionMemberAccess]
    threading.excepthook = hook
