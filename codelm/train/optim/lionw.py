"""LionW: Lion with weight decay decoupled from the learning rate, many tensors at once, plain or sharded.

A step moves every weight by the rate against the sign of a mean of momentum and gradient, and shrinks it by
weight_decay · lr / initial lr. That is lion-pytorch's `decoupled_weight_decay=True` and, operation for operation,
MosaicML's DecoupledLionW: interpolations are single `lerp`s, as there and in lion-pytorch's `foreach`. lion-pytorch's
plain form multiplies and adds instead: the same but for the last bit of the momentum.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lion_pytorch import Lion
from torch import Tensor

from codelm.train.optim.shards import local

_HOST = "cpu"
# On a processor the temporary of so many elements (a thread) stays in its cache; on a GPU it bounds the memory.
_CPU_CHUNK = 1 << 17
_GPU_BUCKET = 1 << 25


class LionW(Lion):
    """lion-pytorch's Lion with decoupled weight decay that is right with several groups, after resuming and sharded.

    lion-pytorch keeps one initial rate for all parameter groups, and does not save it; here it is `initial_lr` of each
    group, and saved, so that groups with rates of their own, and runs resumed at another rate, decay rightly. The state
    of a parameter is `exp_avg`, as there; parameters without a gradient are left as they are, their state too.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, weight_decay=weight_decay, decoupled_weight_decay=True)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As torch's; the group's rate now is its initial one, unless it brings one."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("initial_lr", group["lr"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moved = [parameter for parameter in group["params"] if parameter.grad is not None]
            for parameter in moved:
                if not self.state[parameter]:
                    self.state[parameter]["exp_avg"] = torch.zeros_like(parameter)
            update = _Update(
                rate=group["lr"],
                keep=1 - group["lr"] / group["initial_lr"] * group["weight_decay"],
                mix=1 - group["betas"][0],
                forget=1 - group["betas"][1],
            )
            triples = [_Triple.of(parameter, self.state[parameter]["exp_avg"]) for parameter in moved]
            update.apply([triple for triple in triples if triple.weight.numel()])
        return loss


@dataclass(frozen=True)
class _Triple:
    """What one parameter's update touches on this rank: plain tensors of one shape."""

    weight: Tensor
    gradient: Tensor
    momentum: Tensor

    @classmethod
    def of(cls, parameter: Tensor, momentum: Tensor) -> "_Triple":
        assert parameter.grad is not None
        gradient = local(parameter.grad, like=parameter)
        kept = local(momentum)
        return cls(local(parameter).detach(), gradient.to(kept.dtype), kept)

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        tensors = (self.weight, self.gradient, self.momentum)
        if not all(tensor.is_contiguous() for tensor in tensors):
            yield tensors
            return
        yield from zip(*(tensor.view(-1).split(size) for tensor in tensors), strict=True)


@dataclass(frozen=True)
class _Update:
    """The numbers of a group's step."""

    rate: float
    keep: float
    """What weight decay leaves of a weight."""
    mix: float
    """The gradient's part in the direction."""
    forget: float
    """The gradient's part in the new momentum."""

    def apply(self, triples: Sequence[_Triple]) -> None:
        on_cpu = [triple for triple in triples if triple.weight.device.type == _HOST]
        elsewhere = [triple for triple in triples if triple.weight.device.type != _HOST]
        for triple in on_cpu:
            for weight, gradient, momentum in triple.chunks(_CPU_CHUNK * torch.get_num_threads()):
                self._one(weight, gradient, momentum)
        for bucket in _buckets(elsewhere):
            self._many(bucket)

    def _one(self, weight: Tensor, gradient: Tensor, momentum: Tensor) -> None:
        direction = torch.lerp(momentum, gradient, self.mix).sign_()
        if self.keep != 1:
            weight.mul_(self.keep)
        weight.add_(direction, alpha=-self.rate)
        momentum.lerp_(gradient, self.forget)

    def _many(self, bucket: Sequence[_Triple]) -> None:
        weights = [triple.weight for triple in bucket]
        gradients = [triple.gradient for triple in bucket]
        momenta = [triple.momentum for triple in bucket]
        directions = torch._foreach_lerp(momenta, gradients, self.mix)
        torch._foreach_sign_(directions)
        if self.keep != 1:
            torch._foreach_mul_(weights, self.keep)
        torch._foreach_add_(weights, directions, alpha=-self.rate)
        torch._foreach_lerp_(momenta, gradients, self.forget)


def _buckets(triples: Iterable[_Triple]) -> Iterator[list[_Triple]]:
    """Runs of tensors of one device and kinds, of a bounded number of elements where they are not single large ones."""
    bucket: list[_Triple] = []
    size, kind = 0, None
    for triple in triples:
        its = (triple.weight.device, triple.weight.dtype, triple.momentum.dtype)
        if bucket and (its != kind or size + triple.weight.numel() > _GPU_BUCKET):
            yield bucket
            bucket, size = [], 0
        bucket.append(triple)
        size, kind = size + triple.weight.numel(), its
    if bucket:
        yield bucket
