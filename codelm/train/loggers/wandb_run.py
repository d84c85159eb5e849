"""Weights & Biases: online, offline or disabled; a run that goes on is the same run there."""

import logging
import os
import uuid
from pathlib import Path
from typing import Any

from codelm.config.training.loggers import WandbSection
from codelm.train.loggers.destination import Destination, Opener, Row, RunInfo

log = logging.getLogger(__name__)

_MODES = ("online", "offline", "disabled")


class _Run:
    def __init__(self, section: WandbSection, folder: Path, run: RunInfo) -> None:
        import wandb

        folder.mkdir(parents=True, exist_ok=True)
        self.wandb: Any = wandb
        self.latest = 0
        self.run: Any = wandb.init(
            project=section.project,
            entity=section.entity,
            name=run.name,
            tags=section.tags,
            config=run.config,
            id=_id_of(folder),
            resume="allow",
            dir=str(folder),
            mode=_mode(section, wandb),  # pyright: ignore
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, rows: list[Row]) -> None:
        for row in rows:
            tables = {name: self.wandb.Table(columns=t.columns, data=t.rows) for name, t in row.tables.items()}
            # wandb drops what is of an earlier step than the last: such a row says its batch in its metrics.
            step = row.batch if row.batch >= self.latest else None
            self.latest = max(self.latest, row.batch)
            self.run.log({"batch": row.batch, **row.metrics, **tables}, step=step)

    def close(self) -> None:
        self.run.finish()


def wandb_run(section: WandbSection, folder: Path) -> Opener:
    """A run in the service, or in a folder that `wandb sync` sends later."""

    def open_(run: RunInfo) -> Destination:
        return _Run(section, folder, run)

    return open_


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
