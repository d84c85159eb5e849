"""Weights & Biases: online, offline or disabled; a run that goes on is the same run there."""

import contextlib
import logging
import os
import shlex
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import psutil

from codelm.config.training.loggers import WandbSection
from codelm.train.loggers.destination import Destination, Opener, Rescue, Row, RunInfo, Unsent

log = logging.getLogger(__name__)

_MODES = ("online", "offline", "disabled")
_FINISH_SECONDS = 15.0
"""How long a run's end may go on sending. wandb writes what is left to the disk then; killed, it would not."""
_SERVICE = "wandb-core"
_SERVICE_ENDS_WITHIN = 3.0
_ending = threading.Lock()


class _Run:
    def __init__(self, section: WandbSection, folder: Path, run: RunInfo, finish_seconds: float) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.wandb: Any = wandb
        self.latest = 0
        self.finish_seconds = finish_seconds
        mode = _mode(section, wandb)
        self.run: Any = wandb.init(
            project=section.project,
            entity=section.entity,
            name=run.name,
            tags=section.tags,
            config=run.config,
            id=_id_of(folder),
            resume="allow" if mode == "online" else None,
            dir=str(folder),
            mode=mode,  # pyright: ignore
            settings=wandb.Settings(
                silent=True, console="off", finish_timeout=finish_seconds, finish_timeout_raises=True
            ),
        )

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            tables = {name: self.wandb.Table(columns=t.columns, data=t.rows) for name, t in row.tables.items()}
            # wandb drops what is of an earlier step than the last: such a row says its batch in its metrics.
            step = row.batch if row.batch >= self.latest else None
            self.latest = max(self.latest, row.batch)
            self.run.log({"batch": row.batch, **row.metrics, **tables}, step=step)

    def close(self) -> None:
        try:
            self.run.finish()
        except TimeoutError:
            raise Unsent(f"not all was sent within {self.finish_seconds:.0f} s; {self.later()}") from None

    def later(self) -> str:
        """How to send it later."""
        return f"`wandb sync {shlex.quote(str(Path(self.run.settings.sync_file).parent))}` sends it later"


def wandb_run(section: WandbSection, folder: Path, finish_seconds: float = _FINISH_SECONDS) -> Opener:
    """A run in the service, or in a folder that `wandb sync` sends later."""

    def open_(run: RunInfo) -> Destination:
        return _Run(section, folder, run, finish_seconds)

    return open_


def wandb_rescue(section: WandbSection, folder: Path) -> Rescue:
    """Rows that the service did not take become an offline part of the same run."""
    offline = section.model_copy(update={"mode": "offline"})

    def keep(run: RunInfo, rows: list[Row]) -> str:
        place = _Run(offline, folder, run, _FINISH_SECONDS)
        place.write(rows)
        place.close()
        return place.later()

    return Rescue(_end_service, keep)


def _end_service() -> None:
    """End wandb's process beside ours, in order or else by force.

    wandb waits for it at exit, without end where the network is down, and with a traceback where it is dead.
    """
    wandb = sys.modules.get("wandb")
    if wandb is None:
        return
    # One at a time: who comes back because of the first call must not start a process that this call then kills.
    with _ending:
        # A daemon, for it may hang; it also takes back what wandb has registered for the exit of ours.
        in_order = threading.Thread(target=_tear_down, args=(wandb,), name="wandb-teardown", daemon=True)
        in_order.start()
        in_order.join(_SERVICE_ENDS_WITHIN)
        for process in psutil.Process().children():
            with contextlib.suppress(psutil.Error):
                if process.name() == _SERVICE:
                    process.kill()
        in_order.join(_SERVICE_ENDS_WITHIN)


def _tear_down(wandb: Any) -> None:
    with contextlib.suppress(BaseException):  # It exits with the code of its process, among others.
        wandb.teardown(exit_code=1)


def _mode(section: WandbSection, wandb: Any) -> str:
    """The section's, else that of WANDB_MODE; never a question on the terminal for a key that is not there."""
    mode = section.mode or os.environ.get("WANDB_MODE", "online")
    mode = {"dryrun": "offline", "run": "online"}.get(mode, mode)
    if os.environ.get("WANDB_DISABLED", "").lower() in ("true", "1", "yes"):
        mode = "disabled"
    if mode == "online" and not wandb.api.api_key:
        log.warning("loggers.wandb: no API key is known, so the run is kept offline; `wandb sync` sends it later")
        return "offline"
    return mode if mode in _MODES else "online"


def _id_of(folder: Path) -> str:
    file = folder / "run_id"
    if not file.is_file():
        file.write_text(uuid.uuid4().hex[:12])
    return file.read_text().strip()
