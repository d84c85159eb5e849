"""Activation checkpointing: the same losses and gradients, dropout and packed documents included, from less memory."""

import pytest
import torch

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM

N_LAYERS = 6


def model(checkpointing: bool, **settings: float) -> ReplitCodeForCausalLM:
    torch.manual_seed(1)
    shape = {"d_model": 32, "n_heads": 4, "n_layers": N_LAYERS, "vocab_size": 64, "max_seq_len": 96}
    attention = {"attn_pdrop": settings.pop("attn_pdrop", 0.0)}
    made = ReplitCodeForCausalLM(ReplitCodeConfig(**shape, **settings, attn_config=attention)).train()  # pyright: ignore
    if checkpointing:
        made.gradient_checkpointing_enable({"use_reentrant": False})
    return made


def batch() -> dict[str, torch.Tensor]:
    """Two rows of three documents each."""
    drawn = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 64, (2, 96), generator=drawn)
    ends = torch.tensor([[20, 50], [33, 80]])
    return {"input_ids": ids, "labels": ids, "sequence_id": (torch.arange(96)[None, :, None] >= ends[:, None]).sum(-1)}


@pytest.mark.parametrize("dropout", [{}, {"resid_pdrop": 0.2, "emb_pdrop": 0.1}, {"attn_pdrop": 0.2}])
def test_losses_and_gradients_are_equal(dropout: dict[str, float]) -> None:
    found = []
    for checkpointing in (False, True):
        trained = model(checkpointing, **dropout)
        torch.manual_seed(3)
        loss = trained(**batch()).loss
        loss.backward()
        found.append((float(loss.detach()), [parameter.grad for parameter in trained.parameters()]))
    (loss, gradients), (checkpointed_loss, checkpointed) = found
    assert checkpointed_loss == loss
    assert all(torch.equal(one, other) for one, other in zip(gradients, checkpointed, strict=True))  # pyright: ignore


def saved_bytes(trained: ReplitCodeForCausalLM) -> int:
    """Bytes of the distinct activations that a forward pass keeps for the backward pass."""
    parameters = {parameter.data_ptr() for parameter in trained.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = trained(**batch()).loss
        total = sum(kept.values())
        loss.backward()
    return total


def test_it_keeps_little_more_than_the_residual_stream() -> None:
    stream = 2 * 96 * 32 * 4
    with_it, without = saved_bytes(model(True)), saved_bytes(model(False))
    # Without it a block keeps some twenty times the stream; with it, its input (and all share attention's bias).
    assert without > 15 * N_LAYERS * stream
    assert with_it < without / 5
