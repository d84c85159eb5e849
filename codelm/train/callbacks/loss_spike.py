"""Watch the loss: warn when it runs away, or go back to the checkpoint before and leave out what it ran away on."""

import logging
from pathlib import Path
from typing import Any

from composer import Callback, Logger, State

from codelm.config.training.callbacks import LossSpikeSection
from codelm.data.reading.stream import MixtureDataset
from codelm.errors import CodelmError
from codelm.train.checkpoints.save import CheckpointSaver
from codelm.train.rank_zero import on_rank_zero
from codelm.train.roll_backs import RollBack, RolledBack, choose_checkpoint, record
from codelm.train.spike_detector import SpikeDetector

log = logging.getLogger(__name__)

OUTLIERS_METRIC = "loss_spike/outliers"
ROLL_BACKS_METRIC = "loss_spike/roll_backs"
_LOSS = "loss/train/total"


class LossSpikes(Callback):
    """Every rank sees the same losses, the means over all ranks, and decides alike."""

    def __init__(
        self,
        section: LossSpikeSection,
        save_folder: Path,
        dataset: MixtureDataset,
        roll_backs: list[RollBack],
        saver: CheckpointSaver,
    ) -> None:
        """
        Args:
            section: the configuration's.
            save_folder: where checkpoints are.
            dataset: what is read, with the gaps of former roll-backs.
            roll_backs: the former ones.
            saver: what writes checkpoints.
        """
        self.section = section
        self.save_folder = save_folder
        self.dataset = dataset
        self.roll_backs = roll_backs
        self.saver = saver
        self.detector = SpikeDetector(section.window_size, section.outlier_threshold)
        self.outliers = 0

    def state_dict(self) -> dict[str, Any]:
        detector = self.detector
        return {"recent": [*detector.recent], "in_a_row": detector.in_a_row, "outliers": self.outliers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.detector.restart(state["recent"], state["in_a_row"])
        self.outliers = state["outliers"]

    def batch_end(self, state: State, logger: Logger) -> None:
        """Judge the loss of the batch that was trained on just now.

        Raises:
            RolledBack: the run goes back to a checkpoint.
            CodelmError: it has done so too often.
        """
        batch, loss = int(state.timestamp.batch), float((state.total_loss_dict or {}).get(_LOSS, float("nan")))
        if not self.detector.is_spike(loss):
            return
        self.outliers += 1
        logger.log_metrics({OUTLIERS_METRIC: self.outliers, ROLL_BACKS_METRIC: len(self.roll_backs)})
        row = self.detector.in_a_row
        log.warning("batch %d: the loss is %.3f, usual is %.3f (%d in a row)", batch, loss, self.detector.usual, row)
        if self.section.action == "roll_back" and row == self.section.patience:
            self._roll_back(batch - row + 1, batch, loss)

    def _roll_back(self, first: int, last: int, loss: float) -> None:
        if len(self.roll_backs) >= self.section.max_roll_backs:
            raise CodelmError(
                f"the loss ran away again in the batches {first} to {last} ({loss:.3f}, usual is"
                f" {self.detector.usual:.3f}) after {len(self.roll_backs)} roll-backs; lower optimizer.lr, look at the"
                " data, or raise callbacks.loss_spike.max_roll_backs, and go on from the checkpoints in"
                f" {self.save_folder} that are from before them"
            )
        self.saver.wait()
        checkpoint = on_rank_zero(lambda: choose_checkpoint(self.save_folder, first, self.section.skip_before))
        if checkpoint is None:
            log.warning(
                "there is no checkpoint from before batch %d to go back to, so training goes on; save more often"
                " (save_interval) or keep more (save_num_checkpoints_to_keep)",
                first,
            )
            return
        where = self.dataset.gaps.stream_batch
        begin = where(max(checkpoint, first - 1 - self.section.skip_before))
        left_out = (begin, where(last - 1) + 1 + self.section.skip_after)
        roll_back = RollBack(first, last, loss, self.detector.usual, checkpoint, left_out)
        self.saver.finish()
        on_rank_zero(lambda: record(self.save_folder, self.roll_backs, roll_back))
        raise RolledBack(
            f"the loss ran away in the batches {first} to {last} ({loss:.3f}, usual is {self.detector.usual:.3f}):"
            f" back to batch {checkpoint}, leaving out {left_out[1] - left_out[0]} batches of data"
            f" (roll-back {len(self.roll_backs) + 1} of at most {self.section.max_roll_backs})"
        )
