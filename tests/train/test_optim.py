"""LionW is lion-pytorch's decoupled Lion, right for several groups and after resuming."""

import copy

import pytest
import torch
from lion_pytorch import Lion

from codelm.config.training.optim import AdamWSection, LionWSection
from codelm.train.optim.build import build_optimizer
from codelm.train.optim.lionw import LionW


def weights(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(8, 4, generator=generator)) for _ in range(3)]


def train(
    optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], steps: int, lr_f: float = 1.0
) -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def test_one_group_is_bitwise_lion_pytorch_decoupled() -> None:
    mine, theirs = weights(), weights()
    train(LionW(mine, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1), mine, 50)
    train(Lion(theirs, lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1, decoupled_weight_decay=True), theirs, 50)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_weight_decay_follows_the_rate_relative_to_its_start() -> None:
    """A step without gradient direction shrinks by weight_decay · lr / initial lr, as MosaicML's DecoupledLionW."""
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = LionW([parameter], lr=1e-3, weight_decay=0.1)
    optimizer.param_groups[0]["lr"] = 0.5e-3
    parameter.grad = torch.zeros(2, 2)
    optimizer.step()
    assert torch.allclose(parameter, torch.full((2, 2), 1 - 0.1 * 0.5))


def test_groups_decay_by_their_own_initial_rate() -> None:
    slow, fast = weights()[:2]
    optimizer = LionW([{"params": [slow], "lr": 1e-4}, {"params": [fast], "lr": 1e-2}], lr=1.0, weight_decay=0.1)
    before = [slow.detach().clone(), fast.detach().clone()]
    for parameter in (slow, fast):
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for parameter, old in zip((slow, fast), before, strict=True):
        assert torch.allclose(parameter, old * 0.9)


def test_the_initial_rate_is_saved_so_that_resuming_at_another_rate_keeps_the_decay() -> None:
    parameters = weights()
    optimizer = LionW(parameters, lr=1e-2, weight_decay=0.1)
    train(optimizer, parameters, 3)
    resumed_parameters = copy.deepcopy(parameters)
    resumed = LionW(resumed_parameters, lr=5e-3, weight_decay=0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, parameters, 3)
    train(resumed, resumed_parameters, 3)
    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed_parameters, strict=True))


@pytest.mark.parametrize(
    "section",
    [LionWSection(name="lionw", lr=1e-3, weight_decay=0.1), AdamWSection(name="adamw", lr=1e-3, weight_decay=0.1)],
)
def test_norms_and_biases_do_not_decay(section: LionWSection | AdamWSection) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    groups = build_optimizer(section, model).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]
