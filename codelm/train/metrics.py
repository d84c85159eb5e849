"""Validation metrics: cross-entropy, perplexity's logarithm, and bits per byte, summed exactly over ranks."""

import math

import torch
import torch.nn.functional as F
from torchmetrics import Metric

_ROWS_AT_ONCE = 4096


def token_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The negative log-likelihood in nats of each label, 0 where it is ignored.

    logits (batch, seq, vocab) at position t predict labels (batch, seq) at t + 1; the result is (batch, seq - 1) fp32.
    """
    targets = labels[:, 1:].reshape(-1)
    rows = logits[:, :-1].reshape(-1, logits.shape[-1])
    losses = [
        F.cross_entropy(chunk.float(), target, ignore_index=-100, reduction="none")
        for chunk, target in zip(rows.split(_ROWS_AT_ONCE), targets.split(_ROWS_AT_ONCE), strict=True)
    ]
    return torch.cat(losses).view(labels.shape[0], -1)


class CrossEntropy(Metric):
    """Mean negative log-likelihood in nats a predicted token."""

    full_state_update = False
    nats: torch.Tensor
    tokens: torch.Tensor

    def __init__(self) -> None:
        super().__init__(dist_sync_on_step=False)
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("tokens", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, losses: torch.Tensor, labels: torch.Tensor) -> None:
        """Add `token_losses` and the labels they are of."""
        self.nats += losses.double().sum()
        self.tokens += (labels[:, 1:] != -100).sum()

    def compute(self) -> torch.Tensor:
        """Nats per token."""
        return self.nats / self.tokens


class BitsPerByte(Metric):
    """Bits needed for each UTF-8 byte of the text: comparable between tokenizers.

    Special tokens stand for no text; neither their loss nor their (zero) bytes count.
    """

    full_state_update = False
    nats: torch.Tensor
    bytes: torch.Tensor

    def __init__(self, token_bytes: torch.Tensor) -> None:
        super().__init__(dist_sync_on_step=False)
        self.token_bytes = token_bytes
        self.add_state("nats", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("bytes", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, losses: torch.Tensor, labels: torch.Tensor) -> None:
        """Add `token_losses` and the labels they are of."""
        targets = labels[:, 1:]
        sizes = self.token_bytes.to(targets.device)[targets.clamp(min=0)] * (targets != -100)
        self.nats += (losses * (sizes > 0)).double().sum()
        self.bytes += sizes.sum()

    def compute(self) -> torch.Tensor:
        """Bits per byte."""
        return self.nats / math.log(2) / self.bytes
