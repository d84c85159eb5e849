"""Learning-rate schedules: what part of its rate an optimizer takes in each step of a run.

A schedule is a pure function of the number of steps done, so that resuming needs nothing but that number. A warm-up of
W steps takes 1/W, 2/W, … 1 of the rate; what follows begins at the full rate and reaches its end as the run does: no
step is spent at rate 0. (Composer's schedules are late by a step, and begin a warm-up with two steps at rate 0.)
"""

import math
from collections.abc import Callable

from codelm.config.training.optim import (
    ConstantSection,
    CosineSection,
    InverseSqrtSection,
    LinearSection,
    SchedulerSection,
    WSDSection,
)
from codelm.errors import ConfigError

Schedule = Callable[[int], float]
"""The steps done → the part of the rate that the next step takes."""


def schedule(section: SchedulerSection, steps: int, in_steps: Callable[[str], int]) -> Schedule:
    """The schedule of a run of so many steps. torch's `LambdaLR` takes it, to be stepped after every batch.

    It is a function, not an object, whose attributes torch would save and restore over those of the configuration.

    Args:
        in_steps: a duration such as `5e9tok` in optimizer steps.

    Raises:
        ConfigError: the parts of the schedule are longer than the run.
    """
    warmup = in_steps(section.t_warmup)
    after = _after_warmup(section, steps, warmup, in_steps)

    def part(done: int) -> float:
        return (done + 1) / warmup if done < warmup else after(done - warmup)

    return part


def _after_warmup(section: SchedulerSection, steps: int, warmup: int, in_steps: Callable[[str], int]) -> Schedule:
    """The part of the rate by the steps done since the warm-up."""
    length = steps - warmup
    if isinstance(section, ConstantSection):
        return lambda done: 1.0
    if isinstance(section, CosineSection):
        return _falling(cosine, length, section.alpha_f)
    if isinstance(section, LinearSection):
        return _falling(linear, length, section.alpha_f)
    if isinstance(section, InverseSqrtSection):
        return _inverse_sqrt(section, length, in_steps)
    return _stable_then_falling(section, steps, warmup, in_steps)


def cosine(x: float) -> float:
    """Half a cosine from 1 to 0 over x from 0 to 1."""
    return (1 + math.cos(math.pi * x)) / 2


def linear(x: float) -> float:
    """A line from 1 to 0 over x from 0 to 1."""
    return 1 - x


def one_minus_sqrt(x: float) -> float:
    """From 1 to 0, fast at first: 1 - √x (Hägele et al. 2024, https://arxiv.org/abs/2405.18392)."""
    return 1 - math.sqrt(x)


_SHAPES = {"linear": linear, "cosine": cosine, "1-sqrt": one_minus_sqrt}


def _falling(shape: Callable[[float], float], length: int, alpha_f: float, alpha_i: float = 1.0) -> Schedule:
    """From alpha_i down to alpha_f in so many steps, and alpha_f from then on."""

    def part(done: int) -> float:
        return alpha_f + (alpha_i - alpha_f) * shape(min(done / length, 1.0)) if length > 0 else alpha_f

    return part


def _inverse_sqrt(section: InverseSqrtSection, length: int, in_steps: Callable[[str], int]) -> Schedule:
    scale, cooldown = in_steps(section.t_scale), in_steps(section.t_cooldown)
    begins = max(length - cooldown, 0)

    def slow(done: int) -> float:
        return section.alpha_f_decay + (1 - section.alpha_f_decay) * math.sqrt(scale / (scale + done))

    fast = _falling(linear, length - begins, section.alpha_f_cooldown, slow(begins))
    return lambda done: slow(done) if done < begins or cooldown == 0 else fast(done - begins)


def _stable_then_falling(section: WSDSection, steps: int, warmup: int, in_steps: Callable[[str], int]) -> Schedule:
    decay = in_steps(section.t_decay)
    if warmup + decay > steps:
        raise ConfigError(
            f"scheduler: t_warmup and t_decay take {warmup:,} and {decay:,} batches, and the run has {steps:,};"
            " shorten one of them, or raise max_duration"
        )
    begins = steps - warmup - decay
    falling = _falling(_SHAPES[section.shape], decay, section.alpha_f)
    return lambda done: 1.0 if done < begins else falling(done - begins)
