"""Choosing tokens: by transformers' own definition of the distribution, row by row."""

import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from codelm.errors import EvaluationError
from codelm.model.sampling import Sampling, choose

GRID = 4000


def shares(logits, **settings):
    """How often each token is chosen, `(vocab,)`, by draws spread evenly over [0, 1)."""
    draws = [(step + 0.5) / GRID for step in range(GRID)]
    tokens = choose(logits.expand(GRID, -1), draws, Sampling(**settings))
    return torch.bincount(torch.tensor(tokens), minlength=len(logits)) / GRID


def by_transformers(logits, temperature=1.0, top_k=0, top_p=1.0):
    scores = TemperatureLogitsWarper(temperature)(None, logits[None])
    scores = TopKLogitsWarper(top_k)(None, scores) if top_k else scores
    scores = TopPLogitsWarper(top_p)(None, scores) if top_p < 1 else scores
    return scores.softmax(-1)[0]


SETTINGS = [
    {"temperature": 0.7},
    {"temperature": 1.0, "top_p": 0.8},
    {"temperature": 3.0, "top_p": 0.97},  # so flat that the first candidates are not enough
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.5, "top_k": 20, "top_p": 0.6},
    {"temperature": 1.0, "top_k": 10_000},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_distribution_is_transformers(settings):
    logits = 3 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    found, wanted = shares(logits, **settings), by_transformers(logits, **settings)
    assert (found - wanted).abs().max() < 2 / GRID
    assert (found[wanted == 0] == 0).all()


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_row_is_chosen_as_it_would_be_alone(settings):
    drawn = torch.Generator().manual_seed(1)
    # Of different sharpness: some need more candidates than others.
    logits = torch.randn(12, 3000, generator=drawn) * torch.linspace(0.1, 12, 12)[:, None]
    draws = torch.rand(12, generator=drawn).tolist()
    sampling = Sampling(**settings)
    alone = [choose(logits[row : row + 1], draws[row : row + 1], sampling)[0] for row in range(12)]
    assert choose(logits, draws, sampling) == alone


def test_greedy_takes_the_first_of_the_most_probable():
    assert choose(torch.tensor([[0.0, 2.0, 2.0], [1.0, 0.0, -1.0]]), [0.9, 0.9], Sampling()) == [1, 0]


@pytest.mark.parametrize("draw", [0.0, 1 - 2**-53])
def test_the_ends_of_the_interval_take_tokens_that_are_possible(draw):
    logits = torch.tensor([[-torch.inf, 1.0, 0.0, -torch.inf]])
    for settings in ({}, {"top_p": 0.9}, {"top_k": 3}):
        assert choose(logits, [draw], Sampling(1.0, **settings))[0] in (1, 2)


def test_a_tiny_temperature_is_greedy_not_nan():
    assert choose(torch.tensor([[50.0, 80.0, 79.0]]), [0.5], Sampling(1e-30)) == [1]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": -1}, "top_k is -1"),
    ],
)
def test_values_out_of_range_are_refused(settings, sentence):
    with pytest.raises(EvaluationError, match=sentence):
        Sampling(**settings)
