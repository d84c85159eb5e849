"""Where checkpoints lie: their names in a save_folder, publishing one, taking one away.

`save_folder/ba000050/` is a transformers folder (config.json, model.safetensors, tokenizer files) that also holds
`training_state/`, which a run resumes from, `run.json`, what the run was, and `files.json`, the hashes of all that. It
is written under a temporary name, synced and renamed; `save_folder/latest` then points to it.
"""

import itertools
import logging
import re
import shutil
from pathlib import Path

from codelm.files import sync_to_disk
from codelm.model.pretrained import LATEST

log = logging.getLogger(__name__)

STATE_FOLDER = "training_state"
BEST = "best"
"""The link to the best checkpoint, where a run is told what best is."""

_NAME = re.compile(r"ba(\d{6,})")
_TEMPORARY = ".tmp-"
# A checkpoint being written, one of its parts being written, a checkpoint being removed or downloaded.
_LEFT_BEHIND = re.compile(rf"{re.escape(_TEMPORARY)}({re.escape(_TEMPORARY)})?(old-|new-)?ba\d{{6,}}(-[\w-]+)?")
_SET_ASIDE = "torn-"
_RUINED = "ruined-"


def name_of(batch: int) -> str:
    """The name of the checkpoint after so many batches."""
    return f"ba{batch:06d}"


def batch_of(name: str) -> int | None:
    """The batches of a checkpoint's name; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def checkpoints(save_folder: Path) -> list[Path]:
    """The checkpoints in a folder by their batches, whole ones and torn ones."""
    found = [(batch, path) for path in save_folder.glob("ba*") if (batch := batch_of(path.name)) is not None]
    return [path for _, path in sorted(found)]


def newest_checkpoint(save_folder: Path) -> Path | None:
    """The checkpoint with the most batches, or None."""
    return next(reversed(checkpoints(save_folder)), None)


def temporary(target: Path, mark: str) -> Path:
    """Where a checkpoint is written before it gets its name; `mark` keeps two runs' attempts apart."""
    return target.with_name(f"{_TEMPORARY}{target.name}-{mark}")


def downloading(target: Path) -> Path:
    """Where a checkpoint is downloaded to."""
    return target.with_name(f"{_TEMPORARY}new-{target.name}")


def publish(whole: Path, target: Path) -> None:
    """Give a folder its checkpoint's name, whole or not at all; one that had the name (a run rolled back) goes."""
    for path in [*whole.rglob("*"), whole]:
        sync_to_disk(path)
    if target.exists() or target.is_symlink():
        take_away(target)
    whole.rename(target)
    point(LATEST, target)


def point(link: str, target: Path) -> None:
    """Let `save_folder/<link>` point to a checkpoint."""
    pointer = target.with_name(f"{_TEMPORARY}{link}")
    place = target.with_name(link)
    if place.is_dir() and not place.is_symlink():
        aside = _free(place.with_name(f"copied-{link}"))
        place.rename(aside)
        log.warning("%s is a folder, as copying makes it that follows links: it is now %s", place, aside.name)
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(target.name)
    pointer.replace(place)
    sync_to_disk(target.parent)


def take_away(checkpoint: Path) -> None:
    """Remove a checkpoint so that a kill leaves no half of it under its name."""
    going = checkpoint.with_name(f"{_TEMPORARY}old-{checkpoint.name}")
    remove(going)
    remove(checkpoint.rename(going))


def set_aside(checkpoint: Path) -> Path:
    """Rename a torn checkpoint, so that nothing takes it for a whole one; return its new place."""
    return checkpoint.rename(_free(checkpoint.with_name(f"{_SET_ASIDE}{checkpoint.name}")))


def _free(place: Path) -> Path:
    """The first of `place`, `place-2` … that nothing has."""
    names = itertools.chain([place], (place.with_name(f"{place.name}-{count}") for count in itertools.count(2)))
    return next(name for name in names if not name.exists())


def set_aside_as_ruined(checkpoint: Path) -> Path:
    """Rename a checkpoint whose weights are ruined, so that no run goes on from it; return its new place.

    One of that name goes: a run that is started again and again ruins the same ones, and must not fill the disk.
    """
    place = checkpoint.with_name(f"{_RUINED}{checkpoint.name}")
    remove(place)
    return checkpoint.rename(place)


def remove(folder: Path) -> None:
    """Delete a folder, if it is there; of a link to one elsewhere the link alone."""
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)


def tidy(save_folder: Path) -> None:
    """Undo what a kill left behind: half-written and half-removed folders, and a `latest` of the moment before."""
    for path in save_folder.glob(f"{_TEMPORARY}*"):
        if _LEFT_BEHIND.fullmatch(path.name):
            remove(path)
    newest = newest_checkpoint(save_folder)
    latest = save_folder / LATEST
    if newest is not None and latest.resolve() != newest.resolve():
        point(LATEST, newest)
    elif newest is None and latest.is_symlink():
        latest.unlink()
