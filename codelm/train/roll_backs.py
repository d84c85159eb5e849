"""Going back to a checkpoint from before the loss ran away, and leaving out the data that it ran away on.

`save_folder/roll_backs.json` holds every roll-back of a run, and each checkpoint's `run.json` those that it comes
after. A checkpoint that a later roll-back has left behind is of a past that was given up: it is removed, at the latest
when the run is resumed. What is left out is also part of the data's own state, so that a run resumed elsewhere reads
the same.
"""

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codelm.errors import CheckpointError
from codelm.files import sync_to_disk
from codelm.train.checkpoints.folder import batch_of, checkpoints, take_away
from codelm.train.checkpoints.run_file import read_run

log = logging.getLogger(__name__)

ROLL_BACKS_FILE = "roll_backs.json"


@dataclass(frozen=True)
class RollBack:
    """One time that a run went back."""

    first_batch: int
    """The first batch of the spike; 1 is a run's first."""
    last_batch: int
    """The batch after which the run went back."""
    loss: float
    """The loss of the last batch."""
    usual_loss: float
    """The median before the spike."""
    checkpoint: int
    """The batches of the checkpoint that the run went back to."""
    left_out: tuple[int, int]
    """The global batches of the stream, [first, end), that are read no more; 0 is the stream's first."""


class RolledBack(BaseException):
    """Ends a training in order to begin it again from the checkpoint that was gone back to; no error."""


def read_roll_backs(save_folder: Path) -> list[RollBack]:
    """The roll-backs of the run in a folder.

    Raises:
        CheckpointError: the record is unreadable.
    """
    file = save_folder / ROLL_BACKS_FILE
    if not file.exists():
        return []
    try:
        return [from_record(record) for record in json.loads(file.read_text())]
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file} is no record of roll-backs ({error}); restore it, or delete it") from error


def from_record(record: dict[str, Any]) -> RollBack:
    """A roll-back as `run.json` and `roll_backs.json` hold it."""
    first, end = record["left_out"]
    return RollBack(**{**record, "left_out": (first, end)})


def settle(save_folder: Path) -> list[RollBack]:
    """Remove the checkpoints that roll-backs have left behind; return the roll-backs. On rank 0."""
    roll_backs = read_roll_backs(save_folder)
    for checkpoint in checkpoints(save_folder):
        if _was_left_behind(checkpoint, roll_backs):
            log.info("%s was left behind by a roll-back and is removed", checkpoint)
            take_away(checkpoint)
    return roll_backs


def roll_backs_of(save_folder: Path, checkpoint: Path | None) -> list[RollBack]:
    """Those of the folder, or those that a checkpoint from elsewhere comes after, should it know more."""
    known = read_roll_backs(save_folder)
    records = [] if checkpoint is None else read_run(checkpoint).get("roll_backs", [])
    if len(records) > len(known):
        known = [from_record(record) for record in records]
        _write(save_folder, known)
    return known


def record(save_folder: Path, known: list[RollBack], roll_back: RollBack) -> None:
    """Add a roll-back to the record, then remove what it leaves behind; a kill between them does no harm. On rank 0."""
    _write(save_folder, [*known, roll_back])
    settle(save_folder)


def choose_checkpoint(save_folder: Path, first_batch: int, margin: int) -> int | None:
    """The batches of the newest checkpoint from before a spike, by a margin of batches if there is one. On rank 0."""
    found = [batch_of(path.name) or 0 for path in checkpoints(save_folder)]
    before = [batch for batch in found if batch < first_batch]
    return max([batch for batch in before if batch < first_batch - margin] or before, default=None)


def _was_left_behind(checkpoint: Path, roll_backs: list[RollBack]) -> bool:
    later = [number for number, past in enumerate(roll_backs) if (batch_of(checkpoint.name) or 0) > past.checkpoint]
    if not later:
        return False
    try:
        knows = len(read_run(checkpoint).get("roll_backs", []))
    except CheckpointError:
        return False  # Torn: whoever resumes sets it aside.
    return knows <= later[-1]


def _write(save_folder: Path, roll_backs: list[RollBack]) -> None:
    text = json.dumps([asdict(roll_back) for roll_back in roll_backs], indent=1) + "\n"
    temporary = save_folder / f".tmp-{ROLL_BACKS_FILE}"
    temporary.write_text(text)
    sync_to_disk(temporary)
    temporary.replace(save_folder / ROLL_BACKS_FILE)
    sync_to_disk(save_folder)
