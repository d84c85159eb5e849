"""The optimizer of a run from its section of the YAML: which parameters it trains, in which groups."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from codelm.config.training.optim import AdamWSection, LionWSection
from codelm.errors import ConfigError
from codelm.train.optim.lionw import LionW


def build_optimizer(section: LionWSection | AdamWSection, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters; norms and biases (fewer than two dimensions) do not decay.

    Raises:
        ConfigError: a pattern of param_groups or disable_grad fits no parameter, or nothing is left to train.
    """
    freeze(section, model)
    groups = parameter_groups(section, model)
    betas = (section.betas[0], section.betas[1])
    if isinstance(section, LionWSection):
        return LionW(groups, lr=section.lr, betas=betas)
    # On CPU four times as fast as torch's default. Parameters that have no memory yet it refuses.
    fused = not any(parameter.is_meta for group in groups for parameter in group["params"])
    return torch.optim.AdamW(groups, lr=section.lr, betas=betas, eps=section.eps, fused=fused or None)


def freeze(section: LionWSection | AdamWSection, model: torch.nn.Module) -> None:
    """Train no parameter whose name fits a pattern of `disable_grad`.

    Raises:
        ConfigError: a pattern fits none.
    """
    for pattern in section.disable_grad:
        names = [name for name, _ in model.named_parameters() if re.search(pattern, name)]
        if not names:
            raise ConfigError(f"optimizer.disable_grad: {_fits_none(pattern, model)}")
        for name in names:
            model.get_parameter(name).requires_grad_(False)


def parameter_groups(section: LionWSection | AdamWSection, model: torch.nn.Module) -> list[dict[str, Any]]:
    """Groups for a torch optimizer: those of `param_groups` (the first that fits a name takes it), then the rest.

    Each is split by whether its parameters decay; a group that names its own weight_decay decays whole.

    Raises:
        ConfigError: a pattern fits no trainable parameter that is left to it, or nothing is left to train.
    """
    left = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not left:
        raise ConfigError("optimizer.disable_grad leaves nothing to train; freeze less")
    groups: list[dict[str, Any]] = []
    for number, own in enumerate(section.param_groups):
        names = [name for name in left if re.search(own.param_str_match, name)]
        if not names:
            raise ConfigError(f"optimizer.param_groups[{number}]: {_fits_none(own.param_str_match, model)}")
        settings = own.model_dump(exclude={"param_str_match"}, exclude_none=True)
        parameters = [left.pop(name) for name in names]
        if own.weight_decay is not None:
            groups.append({"params": parameters, **settings})
        else:
            groups += _split(parameters, section.weight_decay, settings)
    groups += _split([*left.values()], section.weight_decay, {})
    return groups


def _split(parameters: list[torch.nn.Parameter], decay: float, settings: dict[str, Any]) -> list[dict[str, Any]]:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay, **settings},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0, **settings},
    ]
    return [group for group in groups if group["params"]]


def _fits_none(pattern: str, model: torch.nn.Module) -> str:
    some = [name for name, _ in model.named_parameters()]
    return (
        f"`{pattern}` fits the name of no parameter that is still to be placed; names are such as"
        f" {some[0]} and {some[len(some) // 2]}"
    )


def settings_kept(optimizer: torch.optim.Optimizer) -> Callable[[Sequence[Any]], None]:
    """A function to call with the schedulers after loading: it gives the optimizer its own settings again.

    Loading replaces them by the checkpoint's, so that a changed learning rate or schedule would be ignored for a batch
    or for good without a word. Call this before a scheduler is built: that already moves the rates.
    """
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

    def restore(schedulers: Sequence[Any]) -> None:
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            group.update({**own, "initial_lr": own["lr"]})
        for scheduler in schedulers:
            assert isinstance(scheduler, LambdaLR)
            scheduler.base_lrs = [own["lr"] for own in settings]
            factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
            scheduler._last_lr = [rate * factor for rate, factor in zip(scheduler.base_lrs, factors, strict=True)]
            for group, rate in zip(optimizer.param_groups, scheduler._last_lr, strict=True):
                group["lr"] = rate

    return restore
