"""Measuring and clipping gradients on one rank; sharded ones are in test_two_ranks_optim.py."""

import math

import pytest
import torch

from codelm.train.optim.gradients import clip_norm, clip_value, global_norm, gradients_of


def parameters() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(3)
    found = [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((8, 4), (5,), (1,), (3,))]
    for parameter in found[:-1]:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return found


def test_clipping_by_norm_is_torchs() -> None:
    mine, theirs = parameters(), parameters()
    norm = float(global_norm(gradients_of(mine)))
    assert norm == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)))
    clip_norm(gradients_of(mine), norm, 1.0)
    torch.testing.assert_close(gradients_of(mine), gradients_of(theirs))


def test_what_is_shorter_than_the_threshold_is_not_touched() -> None:
    mine, before = parameters(), gradients_of(parameters())
    clip_norm(gradients_of(mine), float(global_norm(gradients_of(mine))), 100.0)
    assert all(torch.equal(a, b) for a, b in zip(gradients_of(mine), before, strict=True))


def test_clipping_by_value_is_torchs() -> None:
    mine, theirs = parameters(), parameters()
    clip_value(gradients_of(mine), 0.5)
    torch.nn.utils.clip_grad_value_(theirs, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(gradients_of(mine), gradients_of(theirs), strict=True))


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_one_bad_element_shows_in_the_norm(poison: float) -> None:
    gradients = gradients_of(parameters())
    gradients[1][2] = poison
    assert not global_norm(gradients).isfinite()


def test_large_finite_gradients_have_a_norm() -> None:
    """In float32 the squares would overflow."""
    assert float(global_norm([torch.full((1,), 1e18)] * 400)) == pytest.approx(2e19)


def test_no_gradients_have_no_length() -> None:
    assert float(global_norm([])) == 0.0
