"""The chunked loss against PyTorch's cross-entropy."""

import pytest
import torch
import torch.nn.functional as F

from codelm.errors import ConfigError
from codelm.model import loss as module
from codelm.model.loss import linear_cross_entropy, shifted


@pytest.fixture
def case():
    """Hidden states `(50, 16)`, output weights `(90, 16)` and targets, some ignored."""
    drawn = torch.Generator().manual_seed(4)
    hidden = torch.randn(50, 16, generator=drawn, requires_grad=True)
    weight = torch.randn(90, 16, generator=drawn, requires_grad=True)
    targets = torch.randint(0, 90, (50,), generator=drawn)
    targets[::7] = -100
    return hidden, weight, targets


@pytest.mark.parametrize("rows", [1, 7, 50, 64])
def test_loss_and_gradients_are_pytorchs_whatever_the_chunk(case, monkeypatch, rows) -> None:
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", rows * 90)
    hidden, weight, targets = case
    expected = F.cross_entropy(hidden @ weight.T, targets)
    gradients = torch.autograd.grad(3 * expected, (hidden, weight))
    found = linear_cross_entropy(hidden, weight, targets)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for one, other in zip(torch.autograd.grad(3 * found, (hidden, weight)), gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_large_logits_do_not_overflow() -> None:
    hidden, weight = torch.tensor([[1000.0, 0.0]]), torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert float(linear_cross_entropy(hidden, weight, torch.tensor([1]))) == pytest.approx(2000.0)


def test_without_targets_the_loss_and_its_gradient_are_zero(case) -> None:
    hidden, weight, targets = case
    loss = linear_cross_entropy(hidden, weight, torch.full_like(targets, -100))
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(hidden.grad.abs().sum()) == 0


def test_no_gradients_are_computed_where_none_are_wanted(case) -> None:
    hidden, weight, targets = case
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    frozen = linear_cross_entropy(hidden, weight.detach(), targets)
    frozen.backward()
    assert hidden.grad is not None


def test_a_second_backward_is_refused(case) -> None:
    loss = linear_cross_entropy(*case)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="only once"):
        loss.backward()


def test_under_autocast_the_products_are_low_precision_and_the_loss_is_fp32(case) -> None:
    hidden, weight, targets = case
    exact = linear_cross_entropy(hidden, weight, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy(hidden, weight, targets)
    loss.backward()
    assert loss.dtype == torch.float32
    assert weight.grad.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=0.02)


def test_the_whole_logits_are_never_in_memory(monkeypatch) -> None:
    hidden, weight = torch.randn(1000, 8, requires_grad=True), torch.randn(64, 8, requires_grad=True)
    monkeypatch.setattr(module, "_CHUNK_ELEMENTS", 64 * 100)
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        linear_cross_entropy(hidden, weight, torch.zeros(1000, dtype=torch.long)).backward()
    sizes = [event.self_cpu_memory_usage for event in profile.function_events]
    assert max(sizes) < 1000 * 64 * 4


@pytest.fixture
def chosen():
    yield module.choose
    module.choose(None)


WAYS = [
    "chunked",
    pytest.param("torch", marks=pytest.mark.skipif(not hasattr(F, "linear_cross_entropy"), reason="torch < 2.13")),
]


@pytest.mark.parametrize("scale", [1.0, 0.125])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_gives_pytorchs_loss_and_gradients_also_of_scaled_logits(case, chosen, way, scale) -> None:
    hidden, weight, targets = case
    expected = F.cross_entropy(scale * (hidden @ weight.T), targets)
    gradients = torch.autograd.grad(expected, (hidden, weight))
    chosen(way)
    found = linear_cross_entropy(hidden * scale, weight, targets)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    for one, other in zip(torch.autograd.grad(found, (hidden, weight)), gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("way", ["chunked", "liger", *WAYS[1:]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_way_gives_pytorchs_loss_and_gradients_on_a_gpu(chosen, way, dtype) -> None:
    if way == "liger":
        pytest.importorskip("liger_kernel")
    drawn = torch.Generator().manual_seed(5)
    hidden = torch.randn(300, 64, generator=drawn).to("cuda", dtype).requires_grad_()
    weight = (torch.randn(500, 64, generator=drawn) / 8).cuda().requires_grad_()
    targets = torch.randint(0, 500, (300,), generator=drawn).cuda()
    targets[::7] = -100
    expected = F.cross_entropy(hidden.float() @ weight.T, targets)
    gradients = torch.autograd.grad(expected, (hidden, weight))
    chosen(way)
    with torch.autocast("cuda", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = linear_cross_entropy(hidden, weight, targets)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=tolerance)
    for one, other in zip(torch.autograd.grad(found, (hidden, weight)), gradients, strict=True):
        assert float((one - other).norm() / other.norm()) < tolerance


def test_on_cpu_the_chunks_here_are_taken_whatever_is_installed(monkeypatch) -> None:
    monkeypatch.setattr(module, "_has_liger", lambda: True)
    assert module.default_way(torch.device("cpu")) == "chunked"
    assert module.default_way(torch.device("cuda")) == "liger"


def test_a_way_that_is_not_there_is_refused(chosen, monkeypatch) -> None:
    with pytest.raises(ConfigError, match="there is no loss `fused`; the ways are chunked, liger, torch"):
        chosen("fused")
    monkeypatch.setattr(module, "_has_liger", lambda: False)
    with pytest.raises(ConfigError, match="needs the package liger-kernel"):
        chosen("liger")
    monkeypatch.delattr(F, "linear_cross_entropy", raising=False)
    with pytest.raises(ConfigError, match=r"needs torch 2\.13"):
        chosen("torch")


def test_targets_are_the_next_labels() -> None:
    assert shifted(torch.tensor([[1, 2, 3]])).tolist() == [[2, 3, -100]]
