"""Bits per byte and cross-entropy are exact sums."""

import math

import pytest
import torch
import torch.nn.functional as F

from codelm.train.metrics import BitsPerByte, CrossEntropy, token_losses

VOCAB = 7
TOKEN_BYTES = torch.tensor([0, 0, 1, 1, 2, 3, 5])  # 0 and 1 are special tokens


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 6, VOCAB, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([[2, 3, 1, -100, 4, 5], [6, 6, 2, 3, 4, 1]])


def test_token_losses_are_those_of_the_next_token(logits: torch.Tensor) -> None:
    losses = token_losses(logits, LABELS)
    assert losses.shape == (2, 5)
    assert losses[0, 2] == 0  # ignored
    assert losses[0, 0] == F.cross_entropy(logits[0, 0], LABELS[0, 1])
    total = F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), LABELS[:, 1:].reshape(-1), reduction="sum")
    assert torch.allclose(losses.sum(), total)


def test_cross_entropy_is_the_mean_over_predicted_tokens(logits: torch.Tensor) -> None:
    metric = CrossEntropy()
    for row in range(2):
        metric.update(token_losses(logits[row : row + 1], LABELS[row : row + 1]), LABELS[row : row + 1])
    expected = F.cross_entropy(logits[:, :-1].reshape(-1, VOCAB), LABELS[:, 1:].reshape(-1))
    assert metric.compute().item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_uniform_model_needs_log2_vocab_bits_a_token() -> None:
    metric = BitsPerByte(TOKEN_BYTES)
    metric.update(token_losses(torch.zeros(2, 6, VOCAB), LABELS), LABELS)
    tokens, text_bytes = 3 + 4, (1 + 2 + 3) + (5 + 1 + 1 + 2)
    assert metric.compute().item() == pytest.approx(tokens * math.log2(VOCAB) / text_bytes)


def test_special_tokens_count_neither_as_bits_nor_as_bytes(logits: torch.Tensor) -> None:
    sure_of_eos, unsure = logits.clone(), logits.clone()
    sure_of_eos[0, 1, 1] = 50
    unsure[0, 1, 1] = -50
    values = []
    for variant in (sure_of_eos, unsure):
        metric = BitsPerByte(TOKEN_BYTES)
        metric.update(token_losses(variant, LABELS), LABELS)
        values.append(metric.compute().item())
    assert values[0] == values[1]
