"""The loss of transformers' models in chunks: the same loss and gradients, wherever the logits are one product."""

from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train.chunked_loss import compute_loss_in_chunks, has_plain_head

VOCAB = 64
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}


def build(name: str, **fields: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **{**SMALL, **fields}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["llama", "qwen2", "starcoder2", "gpt_neox", "gemma"])
def test_losses_and_gradients_are_those_of_whole_logits(name: str, tied: bool) -> None:
    model = build(name, tie_word_embeddings=tied, head_dim=8)
    ids = torch.randint(1, VOCAB, (2, 9))
    labels = ids.masked_fill(torch.rand(ids.shape) < 0.3, -100)
    found = []
    for chunked in (False, True):
        if chunked:
            assert has_plain_head(model)
            compute_loss_in_chunks(model)
        output: Any = model(input_ids=ids, labels=labels, use_cache=False)
        assert (output.logits is None) == chunked
        found.append((output.loss, torch.autograd.grad(output.loss, list(model.parameters()))))
    (loss, gradients), (loss_in_chunks, gradients_in_chunks) = found
    assert torch.allclose(loss, loss_in_chunks, rtol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, gradients_in_chunks, strict=True))
    assert model(input_ids=ids).logits.shape == (2, 9, VOCAB)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("gemma2", {"head_dim": 8}),
        ("granite", {"logits_scaling": 3.0}),
        ("cohere", {"logit_scale": 0.5}),
        ("phi", {}),
        ("mixtral", {"num_local_experts": 2, "output_router_logits": True}),
    ],
)
def test_logits_that_are_more_than_a_product_are_left_to_the_model(name: str, fields: dict[str, Any]) -> None:
    assert not has_plain_head(build(name, **fields))


def test_our_model_computes_its_loss_in_chunks_by_itself() -> None:
    config = ReplitCodeConfig(d_model=32, n_heads=4, n_layers=1, vocab_size=VOCAB, max_seq_len=16)
    assert not has_plain_head(ReplitCodeForCausalLM(config))


def test_the_logits_of_a_batch_are_never_kept() -> None:
    model = build("llama", vocab_size=4096)
    compute_loss_in_chunks(model)
    ids = torch.randint(1, 4096, (2, 32))
    kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=ids, labels=ids, use_cache=False)
    assert kept
    assert max(kept) <= 4096 * 32
