"""Optimizers, learning-rate schedules, gradient clipping."""

from typing import Annotated, Literal

from pydantic import Field

from codelm.config.fields import Duration, Fraction, Section

Betas = Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]


class LionWSection(Section):
    """Lion with decoupled weight decay (lion-pytorch, `decoupled_weight_decay=True`), as MosaicML's DecoupledLionW.

    A step shrinks the weights by weight_decay · lr / initial lr: values are those of llm-foundry, not of AdamW.
    """

    name: Literal["lionw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Betas = Field(default_factory=lambda: [0.9, 0.99])
    """Of the update and of the momentum; by default [0.9, 0.99]."""
    weight_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0


class AdamWSection(Section):
    """torch.optim.AdamW."""

    name: Literal["adamw"]
    lr: Annotated[float, Field(gt=0)]
    betas: Betas = Field(default_factory=lambda: [0.9, 0.95])
    """Of the mean and of the variance; by default [0.9, 0.95]."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


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


SchedulerSection = Annotated[CosineSection | LinearSection | ConstantSection, Field(discriminator="name")]


class GradientClippingSection(Section):
    """Composer's GradientClipping."""

    clipping_type: Literal["norm", "value"] = "norm"
    clipping_threshold: Annotated[float, Field(gt=0)] = 1.0


class AlgorithmsSection(Section):
    """Composer algorithms."""

    gradient_clipping: GradientClippingSection | None = GradientClippingSection()
