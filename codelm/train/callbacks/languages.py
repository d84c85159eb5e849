"""What each stream of the mixture gave to training: its share of the samples, and the loss on them.

The schedule tells the stream of every sample from its position, so no batch carries labels of its own.
"""

from collections.abc import Sequence

import numpy as np
import torch
from composer import Callback, Logger, State
from composer.utils import dist
from torch import Tensor

from codelm.data.reading.stream import MixtureDataset
from codelm.model import loss as model_loss


class LanguageMonitor(Callback):
    """Shares since the start and since the last time, and the mean loss a token since the last time.

    The loss is a by-product of computing it in chunks; where a model computes its own, it is left out.
    """

    def __init__(self, dataset: MixtureDataset, every: int) -> None:
        self.dataset = dataset
        self.every = every
        self.streams: Sequence[str] = dataset.order.schedule.streams
        self.since = 0
        self.sums: Tensor | None = None
        self.rows = torch.empty(0, dtype=torch.long)
        self.done = 0

    def fit_start(self, state: State, logger: Logger) -> None:
        self.since = int(state.timestamp.batch)

    def before_train_batch(self, state: State, logger: Logger) -> None:
        batch = state.batch["input_ids"]
        if self.sums is None:
            self.sums = torch.zeros(2, len(self.streams), dtype=torch.float64, device=batch.device)
        global_batch = self.dataset.identity.global_train_batch_size
        place = self.dataset.gaps.stream_batch(int(state.timestamp.batch))
        first = place * global_batch + dist.get_global_rank() * len(batch)
        found, _ = self.dataset.order.schedule.draw_all(np.arange(first, first + len(batch)))
        self.rows = torch.from_numpy(found).to(batch.device)
        self.done = 0
        model_loss.observe(self._add)

    def after_train_batch(self, state: State, logger: Logger) -> None:
        model_loss.observe(None)

    def batch_end(self, state: State, logger: Logger) -> None:
        batch = int(state.timestamp.batch)
        if batch % self.every and batch - self.since < self.every:
            return
        total, recent = self._read_in(batch), self._read_in(batch) - self._read_in(self.since)
        metrics = {}
        for stream, count, now in zip(self.streams, total, recent, strict=True):
            metrics[f"mixture/{stream}/share"] = float(count / total.sum())
            metrics[f"mixture/{stream}/recent_share"] = float(now / recent.sum())
        assert self.sums is not None
        dist.all_reduce(self.sums)
        nats, tokens = self.sums.tolist()
        for stream, loss, predicted in zip(self.streams, nats, tokens, strict=True):
            if predicted:
                metrics[f"loss/train/{stream}"] = loss / predicted
        self.sums.zero_()
        self.since = batch
        logger.log_metrics(metrics)

    def close(self, state: State, logger: Logger) -> None:
        model_loss.observe(None)

    def _read_in(self, batches: int) -> np.ndarray:
        """The samples of each stream, shape (streams,), in the run's first so many batches."""
        drawn, gaps = self.dataset.order.schedule.drawn_before, self.dataset.gaps
        place = gaps.stream_batch(batches)
        left_out = sum(drawn(end) - drawn(first) for first, end in gaps.ranges if end <= place)
        return drawn(place) - left_out

    def _add(self, losses: Tensor, counted: Tensor) -> None:
        """The losses of the next rows of the batch, `(rows · seq,)` as they lie, 0 where nothing is predicted."""
        assert self.sums is not None
        seq = self.dataset.identity.max_seq_len
        nats, tokens = losses.view(-1, seq).sum(dim=1), counted.view(-1, seq).sum(dim=1)
        rows = self.rows[self.done : self.done + len(nats)]
        self.done += len(nats)
        self.sums[0].index_add_(0, rows, nats.double())
        self.sums[1].index_add_(0, rows, tokens.double())
