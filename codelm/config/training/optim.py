"""Optimizers, learning-rate schedules, gradient clipping."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from codelm.config.fields import Duration, Fraction, PositiveDuration, Section


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"`{pattern}` is no regular expression: {error}") from None
    return pattern


Betas = Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
NamePattern = Annotated[str, Field(min_length=1), AfterValidator(_compiles)]
"""A regular expression that is searched for in the names of parameters."""


class ParamGroupSection(Section):
    """Parameters with settings of their own; what is left out is the optimizer's."""

    param_str_match: NamePattern
    lr: Annotated[float, Field(gt=0)] | None = None
    """The schedule multiplies it as it does the optimizer's."""
    betas: Betas | None = None
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Of all parameters of the group, norms and biases too; null decays as elsewhere."""


class LionWSection(Section):
    """Lion with decoupled weight decay (lion-pytorch, `decoupled_weight_decay=True`), as MosaicML's DecoupledLionW.

    A step shrinks the weights by weight_decay · lr / initial lr: values are those of llm-foundry, not of AdamW.
    """

    name: Literal["lionw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Betas = Field(default_factory=lambda: [0.9, 0.99])
    """Of the update and of the momentum; by default [0.9, 0.99]."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    param_groups: list[ParamGroupSection] = Field(default_factory=list, json_schema_extra={"default": []})
    """The first that fits a parameter's name takes it."""
    disable_grad: list[NamePattern] = Field(default_factory=list, json_schema_extra={"default": []})
    """Parameters whose names fit one of these are not trained."""


class AdamWSection(Section):
    """torch.optim.AdamW."""

    name: Literal["adamw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Betas = Field(default_factory=lambda: [0.9, 0.95])
    """Of the mean and of the variance; by default [0.9, 0.95]."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    param_groups: list[ParamGroupSection] = Field(default_factory=list, json_schema_extra={"default": []})
    """The first that fits a parameter's name takes it."""
    disable_grad: list[NamePattern] = Field(default_factory=list, json_schema_extra={"default": []})
    """Parameters whose names fit one of these are not trained."""


OptimizerSection = Annotated[LionWSection | AdamWSection, Field(discriminator="name")]


class CosineSection(Section):
    """Linear warm-up, then a cosine from the full rate down to alpha_f of it at max_duration."""

    name: Literal["cosine_with_warmup"]
    t_warmup: Duration = "0ba"
    alpha_f: Fraction = 0.1


class LinearSection(Section):
    """Linear warm-up, then a line from the full rate down to alpha_f of it at max_duration."""

    name: Literal["linear_with_warmup"]
    t_warmup: Duration = "0ba"
    alpha_f: Fraction = 0.0


class ConstantSection(Section):
    """Linear warm-up, then a constant rate."""

    name: Literal["constant_with_warmup"]
    t_warmup: Duration = "0ba"


class InverseSqrtSection(Section):
    """llm-foundry's: linear warm-up, then √(t_scale / (t_scale + t)), with an optional cool-down at the end.

    Until the cool-down it does not depend on max_duration, so that a run may go on for as long as it pays.
    """

    name: Literal["inv_sqrt_with_warmup"]
    t_warmup: Duration = "0ba"
    t_scale: PositiveDuration
    """After three times as long the rate is half."""
    t_cooldown: Duration = "0ba"
    """The last of the run, in a line down to alpha_f_cooldown."""
    alpha_f_decay: Fraction = 0.0
    """What it would reach after infinite time."""
    alpha_f_cooldown: Fraction = 0.0


class WSDSection(Section):
    """Linear warm-up, then the full rate (stable), then a decay to alpha_f over the last t_decay of the run.

    From a checkpoint of the stable part a run may be taken to any length, with a decay of its own.
    """

    name: Literal["wsd"]
    t_warmup: Duration = "0ba"
    t_decay: PositiveDuration
    """A tenth to a fifth of the run is usual."""
    shape: Literal["linear", "cosine", "1-sqrt"] = "linear"
    alpha_f: Fraction = 0.0


SchedulerSection = Annotated[
    CosineSection | LinearSection | ConstantSection | InverseSqrtSection | WSDSection, Field(discriminator="name")
]


class GradientClippingSection(Section):
    """Before every step, over all ranks."""

    clipping_type: Literal["norm", "value"] = "norm"
    """norm: of all gradients together; value: of each element."""
    clipping_threshold: Annotated[float, Field(gt=0)] = 1.0


class AlgorithmsSection(Section):
    """What llm-foundry has under this name; null turns one off."""

    gradient_clipping: GradientClippingSection | None = GradientClippingSection()
