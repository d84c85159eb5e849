"""What becomes of the checkpoints of a save_folder as new ones come: which go, which is the best, which are ruined.

A checkpoint is written after a step, and whether that step ruined the weights shows in the next batch's loss: until
then, and as long as steps are skipped, the newest one whose weights have given a finite loss stays beside the others.
"""

import logging
from pathlib import Path

from codelm.config.training.checkpoints import SaveBestSection
from codelm.errors import CheckpointError
from codelm.model.pretrained import LATEST
from codelm.train.checkpoints.folder import (
    BEST,
    batch_of,
    checkpoints,
    name_of,
    point,
    set_aside_as_ruined,
    take_away,
)
from codelm.train.checkpoints.hashes import damage
from codelm.train.checkpoints.policy import Kept, Policy
from codelm.train.checkpoints.run_file import metric_of, read_run
from codelm.train.checkpoints.upload import Uploader

log = logging.getLogger(__name__)


class Retention:
    """Rank 0's; on the other ranks it does nothing but know which weights are good."""

    def __init__(self, save_folder: Path, policy: Policy, uploader: Uploader | None) -> None:
        self.save_folder = save_folder
        self.policy = policy
        self.uploader = uploader
        self.trusted = 0
        """The batches after which the weights are known to be good."""
        self.best_metric: float | None = None
        self.held = False
        """A checkpoint stays only until a newer one is trusted."""

    def begin(self) -> None:
        """Look which one is the best so far."""
        best = self.policy.best_of(self._found())
        self.best_metric = best.metric if best else None

    def trust(self, batch: int) -> None:
        """The weights after so many batches have given a finite loss, or nothing comes that could tell."""
        self.trusted = batch
        if self.uploader is not None:
            self.uploader.trusted = batch

    def after(self, checkpoint: Path) -> None:
        """Upload a new checkpoint, let go of the others that nothing keeps, point to the best."""
        if self.uploader is not None:
            self.uploader.submit(checkpoint)
        self._let_go()
        best = self.policy.best_of(self._found())
        if best is not None:
            self.best_metric = best.metric
            point(BEST, self._path(best.batch))

    def let_go_of_held(self) -> None:
        """Let go of what had to wait until the newest checkpoint was trusted."""
        if not self.held:
            return
        try:
            self._let_go()
        except OSError as error:
            log.warning("an old checkpoint could not be removed: %s", error)

    def make_room(self, target: Path) -> bool:
        """Whether something went that would go as soon as a new checkpoint is there, for which the disk has no room.

        The newest, the best and the newest trusted one stay, so that no good one is lost should there be no room yet.
        """
        found = self._found()
        if not found or damage(self._path(found[-1].batch), deep=False) is not None:
            return False
        best = self.policy.best_of(found)
        going = self.policy.to_remove([*found, Kept(batch_of(target.name) or 0, None)], self.trusted)
        going -= {found[-1].batch, best.batch if best else -1}
        paths = sorted({self._path(batch) for batch in going} - self._in_use())
        for path in paths:
            log.warning("the disk is full: %s is removed before %s is written", path, target.name)
            take_away(path)
        return bool(paths)

    def fall_back(self) -> Path | None:
        """Set aside all checkpoints that are newer than the newest trusted one; return that one, if there is one.

        Nothing is being written or uploaded, and nothing will be.
        """
        for checkpoint in reversed(checkpoints(self.save_folder)):
            if (batch_of(checkpoint.name) or 0) <= self.trusted:
                break
            place = set_aside_as_ruined(checkpoint)
            log.warning("%s has given no finite loss: it is now %s", checkpoint, place.name)
        found = self._found()
        best = self.policy.best_of(found)
        for link, kept in {LATEST: found[-1] if found else None, BEST: best}.items():
            if kept is not None:
                point(link, self._path(kept.batch))
            elif (self.save_folder / link).is_symlink():
                (self.save_folder / link).unlink()
        if self.uploader is not None:
            self.uploader.take_back_to(self.trusted)
        return self._path(found[-1].batch) if found else None

    def _let_go(self) -> None:
        found = self._found()
        going = self.policy.to_remove(found, self.trusted)
        self.held = going != self.policy.to_remove(found)
        for path in sorted({self._path(batch) for batch in going} - self._in_use()):
            take_away(path)

    def _found(self) -> list[Kept]:
        paths = checkpoints(self.save_folder)
        return [Kept(batch_of(path.name) or 0, _metric_at(path, self.policy.best)) for path in paths]

    def _in_use(self) -> set[Path]:
        return self.uploader.in_use() if self.uploader is not None else set()

    def _path(self, batch: int) -> Path:
        return self.save_folder / name_of(batch)


def _metric_at(checkpoint: Path, best: SaveBestSection | None) -> float | None:
    try:
        return metric_of(read_run(checkpoint), best) if best is not None else None
    except CheckpointError:
        # An older checkpoint that is damaged is no reason to stop: it is never the best.
        return None
