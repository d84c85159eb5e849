"""Weights alone, as transformers folders, while a run trains: to try, to serve, to keep."""

import logging
import shutil
from pathlib import Path

import torch
from composer import Callback, Event, Logger, State
from composer.utils import dist
from composer.utils.misc import create_interval_scheduler

from codelm.errors import CodelmError
from codelm.model.saving import save_transformers
from codelm.train.adapters import has_adapters, save_adapters
from codelm.train.checkpoints.folder import name_of
from codelm.train.checkpoints.weights import unwrapped, weights_to_save

log = logging.getLogger(__name__)


class HfCheckpointer(Callback):
    """Rank 0 writes, whole or not at all; a folder that cannot be written costs a warning."""

    def __init__(self, folder: Path, interval: str, dtype: torch.dtype, tokenizer_folder: Path) -> None:
        """`interval`: in batches, such as `50ba`. `dtype`: of the written weights; adapters keep theirs."""
        self.folder = folder
        self.dtype = dtype
        self.tokenizer_folder = tokenizer_folder
        self.is_due = create_interval_scheduler(interval, include_end_of_training=True)
        self.last = -1

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        batch = int(state.timestamp.batch)
        if batch == self.last or not self.is_due(state, Event.BATCH_CHECKPOINT):
            return
        self.last = batch
        weights = weights_to_save(state.model)
        if dist.get_global_rank() != 0:
            return
        target = self.folder / name_of(batch)
        model = unwrapped(state.model).model
        try:
            # A run that goes on from before it writes it anew.
            shutil.rmtree(target, ignore_errors=True)
            if has_adapters(model):
                unfinished = target.with_name(f".tmp-{target.name}")
                shutil.rmtree(unfinished, ignore_errors=True)
                save_adapters(weights, model, self.tokenizer_folder, unfinished)
                unfinished.rename(target)
            else:
                save_transformers(weights, model.config, self.tokenizer_folder, target, dtype=self.dtype)
        except (CodelmError, OSError) as error:
            log.warning("%s was not written (%s); training goes on", target, error)
        else:
            log.info("wrote %s", target)
