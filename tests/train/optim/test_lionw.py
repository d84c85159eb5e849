"""LionW is lion-pytorch's decoupled Lion and MosaicML's DecoupledLionW; right for several groups and after resuming."""

import copy
from pathlib import Path

import pytest
import torch
from lion_pytorch import Lion
from lion_pytorch.foreach import Lion as ForeachLion
from safetensors.torch import load_file

from codelm.train.optim import lionw
from codelm.train.optim.lionw import LionW

RECORDED = Path(__file__).with_name("reference") / "decoupled_lionw.safetensors"
FUSES_PRODUCT_AND_SUM = torch.backends.cpu.get_cpu_capability() in ("AVX2", "AVX512")


def weights(seed: int = 0) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.nn.Parameter(torch.randn(8, 4, generator=generator)) for _ in range(3)]


def train(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], rates: list[float]) -> None:
    """A step at each of the rates, on the same random gradients for every optimizer."""
    generator = torch.Generator().manual_seed(1)
    for rate in rates:
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def momenta(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [state["exp_avg"] for state in optimizer.state.values()]


def test_it_is_bitwise_the_recorded_decoupled_lionw() -> None:
    recorded = load_file(RECORDED)
    names = ["matrix", "bias", "scalar"]
    parameters = [torch.nn.Parameter(recorded[f"{name}/start"]) for name in names]
    rates = recorded["rates"].tolist()
    optimizer = LionW(parameters, lr=rates[0], betas=(0.9, 0.95), weight_decay=3e-2)
    for number, rate in enumerate(rates):
        optimizer.param_groups[0]["lr"] = rate
        for name, parameter in zip(names, parameters, strict=True):
            parameter.grad = recorded[f"{name}/gradients"][number].clone()
        optimizer.step()
    for name, parameter in zip(names, parameters, strict=True):
        assert torch.equal(parameter, recorded[f"{name}/end"])
        momentum = optimizer.state[parameter]["exp_avg"]
        torch.testing.assert_close(momentum, recorded[f"{name}/momentum"], rtol=0, atol=1e-7)
        # The record is from a processor that does not round between product and sum; those of other kinds do.
        assert torch.equal(momentum, recorded[f"{name}/momentum"]) or not FUSES_PRODUCT_AND_SUM


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_one_group_is_bitwise_lion_pytorchs_foreach_and_its_plain_form_but_for_the_momentums_last_bit(
    decay: float,
) -> None:
    rates = [1e-2 * (1 - 0.015 * step) for step in range(50)]
    mine, plain, foreach = weights(), weights(), weights()
    settings = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": decay}
    optimizer = LionW(mine, **settings)
    as_foreach = ForeachLion(foreach, **settings, decoupled_weight_decay=True)
    as_plain = Lion(plain, **settings, decoupled_weight_decay=True)
    train(optimizer, mine, rates)
    train(as_foreach, foreach, rates)
    train(as_plain, plain, rates)
    assert all(torch.equal(a, b) for a, b in zip(mine, foreach, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(momenta(optimizer), momenta(as_foreach), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(mine, plain, strict=True))
    torch.testing.assert_close(momenta(optimizer), momenta(as_plain))


def test_neither_chunks_nor_buckets_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, chunked, bucketed = weights(), weights(), weights()
    train(LionW(whole, lr=1e-2, weight_decay=0.1), whole, [1e-2] * 5)
    monkeypatch.setattr(lionw, "_CPU_CHUNK", 5)
    train(LionW(chunked, lr=1e-2, weight_decay=0.1), chunked, [1e-2] * 5)
    # The path of GPUs, two tensors in a bucket.
    monkeypatch.setattr(lionw, "_GPU_BUCKET", 64)
    monkeypatch.setattr(lionw, "_HOST", "none")
    train(LionW(bucketed, lr=1e-2, weight_decay=0.1), bucketed, [1e-2] * 5)
    assert all(torch.equal(a, b) for a, b in zip(whole, chunked, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(whole, bucketed, strict=True))


def test_tensors_that_are_not_contiguous_move_like_others() -> None:
    one = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
    other = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4).t().contiguous().t())
    for parameter in (one, other):
        parameter.grad = torch.arange(12.0).reshape(3, 4) - 6
        LionW([parameter], lr=0.5, weight_decay=0.1).step()
    assert not other.is_contiguous()
    assert torch.equal(one, other)


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


def test_a_group_that_comes_later_has_its_own_initial_rate() -> None:
    slow, fast = weights()[:2]
    optimizer = LionW([slow], lr=1e-4)
    optimizer.add_param_group({"params": [fast], "lr": 1e-2})
    assert [group["initial_lr"] for group in optimizer.param_groups] == [1e-4, 1e-2]


def test_the_initial_rate_is_saved_so_that_resuming_at_another_rate_keeps_the_decay() -> None:
    parameters = weights()
    optimizer = LionW(parameters, lr=1e-2, weight_decay=0.1)
    train(optimizer, parameters, [1e-2] * 3)
    resumed_parameters = copy.deepcopy(parameters)
    resumed = LionW(resumed_parameters, lr=5e-3, weight_decay=0.1)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, parameters, [1e-2] * 3)
    train(resumed, resumed_parameters, [1e-2] * 3)
    assert all(torch.equal(a, b) for a, b in zip(parameters, resumed_parameters, strict=True))


def test_a_parameter_without_a_gradient_and_its_state_are_left_alone() -> None:
    parameters = weights()
    optimizer = LionW(parameters, lr=1e-2, weight_decay=0.1)
    train(optimizer, parameters, [1e-2])
    before = copy.deepcopy((parameters[0], optimizer.state[parameters[0]]["exp_avg"]))
    parameters[0].grad = None
    optimizer.step()
    assert torch.equal(parameters[0], before[0])
    assert torch.equal(optimizer.state[parameters[0]]["exp_avg"], before[1])
