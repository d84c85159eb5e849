"""Optimizers and learning-rate schedules from their sections of the YAML."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from composer.core import Time
from composer.optim import (
    ComposerScheduler,
    ConstantWithWarmupScheduler,
    CosineAnnealingWithWarmupScheduler,
    LinearWithWarmupScheduler,
)
from lion_pytorch import Lion

from codelm.config.training.optim import (
    AdamWSection,
    ConstantSection,
    CosineSection,
    LinearSection,
    LionWSection,
)


class LionW(Lion):
    """lion-pytorch's Lion with decoupled weight decay: a step shrinks weights by weight_decay · lr / initial lr.

    lion-pytorch keeps one initial rate for all parameter groups, and does not save it; here it is kept in each group
    and saved, so that groups with rates of their own, and runs resumed at another rate, decay rightly.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, decoupled_weight_decay=True)
        for group in self.param_groups:
            group.setdefault("initial_lr", group["lr"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            decay = group["weight_decay"] / group["initial_lr"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                self.update_fn(parameter, parameter.grad, state["exp_avg"], group["lr"], decay, beta1, beta2)
        return loss


def build_optimizer(section: LionWSection | AdamWSection, model: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimizer over all trainable parameters; norms and biases (fewer than two dimensions) do not decay."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": section.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    betas = (section.betas[0], section.betas[1])
    if isinstance(section, LionWSection):
        return LionW(groups, lr=section.lr, betas=betas)
    return torch.optim.AdamW(groups, lr=section.lr, betas=betas, eps=section.eps)


def settings_kept(optimizer: torch.optim.Optimizer) -> Callable[[Sequence[Any]], None]:
    """A function to call with the schedulers after loading: it gives the optimizer its own settings again.

    Loading replaces them by the checkpoint's, so that a changed learning rate would be ignored without a word.
    """
    settings = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]

    def restore(schedulers: Sequence[Any]) -> None:
        scales = []
        for group, own in zip(optimizer.param_groups, settings, strict=True):
            scales.append(own["lr"] / group["initial_lr"])
            group.update({**own, "lr": group["lr"] * scales[-1], "initial_lr": own["lr"]})
        for scheduler in schedulers:
            scheduler.base_lrs = [own["lr"] for own in settings]
            scheduler._last_lr = [rate * scale for rate, scale in zip(scheduler._last_lr, scales, strict=True)]

    return restore


def build_scheduler(section: CosineSection | LinearSection | ConstantSection, warmup: Time) -> ComposerScheduler:
    """Composer's schedule over max_duration; the warm-up in batches, whatever its unit in the section."""
    if isinstance(section, CosineSection):
        return CosineAnnealingWithWarmupScheduler(t_warmup=warmup, alpha_f=section.alpha_f)
    if isinstance(section, LinearSection):
        return LinearWithWarmupScheduler(t_warmup=warmup, alpha_f=section.alpha_f)
    return ConstantWithWarmupScheduler(t_warmup=warmup)
