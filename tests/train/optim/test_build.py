"""Which parameters are trained, in which groups, and what a resumed optimizer keeps of its own configuration."""

import copy

import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from codelm.config.training.optim import AdamWSection, LionWSection, ParamGroupSection
from codelm.errors import ConfigError
from codelm.train.optim.build import build_optimizer, settings_kept
from codelm.train.optim.lionw import LionW

SECTIONS = [
    LionWSection(name="lionw", lr=1e-3, weight_decay=0.1),
    AdamWSection(name="adamw", lr=1e-3, weight_decay=0.1),
]


def model() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 4))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_norms_and_biases_do_not_decay(section: LionWSection | AdamWSection) -> None:
    groups = build_optimizer(section, model()).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 2), (0.0, 4)]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_patterns_put_parameters_into_groups_with_settings_of_their_own(section: LionWSection | AdamWSection) -> None:
    patterns = [
        ParamGroupSection(param_str_match=r"^2\.", lr=1e-4, betas=[0.8, 0.9]),
        ParamGroupSection(param_str_match="weight", weight_decay=0.5),
    ]
    groups = build_optimizer(section.model_copy(update={"param_groups": patterns}), model()).param_groups
    found = [(group["lr"], group["betas"][0], group["weight_decay"], len(group["params"])) for group in groups]
    usual = (section.lr, section.betas[0])
    assert found == [(1e-4, 0.8, 0.1, 1), (1e-4, 0.8, 0.0, 1), (*usual, 0.5, 2), (*usual, 0.0, 2)]
    if isinstance(section, LionWSection):
        assert [group["initial_lr"] for group in groups] == [1e-4, 1e-4, 1e-3, 1e-3]


def test_parameters_may_be_frozen_by_name() -> None:
    of = model()
    optimizer = build_optimizer(SECTIONS[0].model_copy(update={"disable_grad": [r"^0\.", "bias"]}), of)
    assert [name for name, parameter in of.named_parameters() if parameter.requires_grad] == ["1.weight", "2.weight"]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_a_pattern_that_fits_nothing_is_refused_with_names_that_there_are() -> None:
    section = SECTIONS[0].model_copy(update={"param_groups": [ParamGroupSection(param_str_match="wieght")]})
    with pytest.raises(ConfigError, match=r"optimizer.param_groups\[0\]: `wieght` fits .* such as 0.weight and 1.bias"):
        build_optimizer(section, model())
    with pytest.raises(ConfigError, match=r"optimizer.disable_grad: `wpe` fits the name of no parameter"):
        build_optimizer(SECTIONS[0].model_copy(update={"disable_grad": ["wpe"]}), model())
    with pytest.raises(ConfigError, match="leaves nothing to train"):
        build_optimizer(SECTIONS[0].model_copy(update={"disable_grad": ["."]}), model())


def test_after_loading_an_optimizer_has_the_rates_of_its_own_configuration_at_once() -> None:
    """Of the new rate and the new schedule, from the first step on."""
    former = LionW(model().parameters(), lr=1e-2, weight_decay=0.1)
    schedule = LambdaLR(former, lambda done: 1 / (1 + done))
    for _ in range(4):
        former.step()
        schedule.step()
    saved = copy.deepcopy((former.state_dict(), schedule.state_dict()))

    resumed = LionW(model().parameters(), lr=1e-3, weight_decay=0.2)
    restore = settings_kept(resumed)
    schedule = LambdaLR(resumed, lambda done: 0.5 if done == 4 else 0.0)
    resumed.load_state_dict(saved[0])
    schedule.load_state_dict(saved[1])
    restore([schedule])
    group = resumed.param_groups[0]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.5e-3, 1e-3, 0.2)
    assert schedule.get_last_lr() == [0.5e-3]
    resumed.step()
    schedule.step()
    assert group["lr"] == 0.0
