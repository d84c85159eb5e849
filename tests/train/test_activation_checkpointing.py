"""Activation checkpointing: the same losses and gradients, dropout and packed documents included, from less memory."""

import pytest
import torch

from codelm.config.training.parallel import ActivationCheckpointingSection
from codelm.errors import ConfigError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train.composer_model import transformer_blocks
from codelm.train.parallel.activations import checkpoint_activations, offload_activations

N_LAYERS = 6


EVERY_BLOCK = ActivationCheckpointingSection()
EVERY_SECOND = ActivationCheckpointingSection(every=2)
SELECTIVE = ActivationCheckpointingSection(selective=True)


def model(checkpointing: ActivationCheckpointingSection | None, **settings: float) -> ReplitCodeForCausalLM:
    torch.manual_seed(1)
    shape = {"d_model": 32, "n_heads": 4, "n_layers": N_LAYERS, "vocab_size": 64, "max_seq_len": 96}
    attention = {"attn_pdrop": settings.pop("attn_pdrop", 0.0)}
    made = ReplitCodeForCausalLM(ReplitCodeConfig(**shape, **settings, attn_config=attention)).train()  # pyright: ignore
    if checkpointing is not None:
        checkpoint_activations(made, transformer_blocks(made), checkpointing)
    return made


def batch() -> dict[str, torch.Tensor]:
    """Two rows of three documents each."""
    drawn = torch.Generator().manual_seed(2)
    ids = torch.randint(0, 64, (2, 96), generator=drawn)
    ends = torch.tensor([[20, 50], [33, 80]])
    return {"input_ids": ids, "labels": ids, "sequence_id": (torch.arange(96)[None, :, None] >= ends[:, None]).sum(-1)}


@pytest.mark.parametrize("section", [EVERY_BLOCK, EVERY_SECOND, SELECTIVE], ids=["all", "every-second", "selective"])
@pytest.mark.parametrize("dropout", [{}, {"resid_pdrop": 0.2, "emb_pdrop": 0.1}, {"attn_pdrop": 0.2}])
def test_losses_and_gradients_are_equal(dropout: dict[str, float], section: ActivationCheckpointingSection) -> None:
    found = []
    for checkpointing in (None, section):
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
    with_it, without = saved_bytes(model(EVERY_BLOCK)), saved_bytes(model(None))
    # Without it a block keeps some twenty times the stream; with it, its input (and all share attention's bias).
    assert without > 15 * N_LAYERS * stream
    assert with_it < without / 5


def test_every_second_block_keeps_half_of_the_difference() -> None:
    every, second, none = (saved_bytes(model(section)) for section in (EVERY_BLOCK, EVERY_SECOND, None))
    assert second - every == pytest.approx((none - every) / 2, rel=0.1)


def test_a_model_that_recomputes_all_blocks_or_none_is_refused_every_second() -> None:
    made = model(None)
    with pytest.raises(ConfigError, match="recomputes all of its blocks or none; set every=1"):
        checkpoint_activations(made, [torch.nn.Linear(2, 2)], EVERY_SECOND)


def test_a_model_without_it_is_refused() -> None:
    made = model(None)
    made.supports_gradient_checkpointing = False
    with pytest.raises(ConfigError, match="activation_checkpointing: ReplitCodeForCausalLM has none; set it to false"):
        checkpoint_activations(made, transformer_blocks(made), EVERY_BLOCK)


@pytest.mark.parametrize("section", [None, EVERY_BLOCK], ids=["kept", "recomputed"])
def test_offloaded_activations_give_the_same_gradients(section: ActivationCheckpointingSection | None) -> None:
    found = []
    for offloaded in (False, True):
        trained = model(section, resid_pdrop=0.2)
        if offloaded:
            offload_activations(transformer_blocks(trained))
        torch.manual_seed(3)
        trained(**batch()).loss.backward()
        found.append([parameter.grad for parameter in trained.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
