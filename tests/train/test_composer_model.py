"""Packed documents do not see each other, in our model and in transformers' models that take a mask."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from codelm.data.reading.stream import Collator
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train.composer_model import (
    ComposerCausalLM,
    document_positions,
    masks_documents,
    transformer_blocks,
)

EOS, VOCAB = 1, 40


def replit() -> PreTrainedModel:
    return ReplitCodeForCausalLM(ReplitCodeConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=VOCAB, max_seq_len=16))


def llama() -> PreTrainedModel:
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCAB
    )
    config._attn_implementation = "sdpa"
    return LlamaForCausalLM(config)


def wrapped(model: PreTrainedModel) -> ComposerCausalLM:
    return ComposerCausalLM(model, torch.ones(VOCAB, dtype=torch.int32))


DOCUMENTS = [torch.tensor([5, 6, 7, 8, EOS]), torch.tensor([9, 4, 3, EOS]), torch.tensor([12, 13, EOS])]


@pytest.mark.parametrize("build", [replit, llama])
def test_packed_documents_have_the_loss_and_gradients_of_the_documents_alone(build) -> None:
    torch.manual_seed(0)
    model = wrapped(build()).train()
    packed = Collator(EOS)([torch.cat(DOCUMENTS)])
    predicted = sum(len(document) - 1 for document in DOCUMENTS)
    loss = model.loss(model(packed), packed)
    gradients = torch.autograd.grad(loss, list(model.model.parameters()))

    alone = torch.zeros(())
    for document in DOCUMENTS:
        batch = Collator(EOS)([document])
        alone = alone + model.loss(model(batch), batch) * (len(document) - 1) / predicted
    expected = torch.autograd.grad(alone, list(model.model.parameters()))
    assert torch.allclose(loss, alone, atol=1e-5)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(gradients, expected, strict=True))


def test_whether_a_model_masks_documents_is_tried_on_it() -> None:
    assert masks_documents(llama().eval())
    broken = llama().eval()
    forward = broken.forward
    broken.forward = lambda attention_mask=None, position_ids=None, **rest: forward(**rest)
    assert not masks_documents(broken)


def test_learned_positions_restart_in_every_document() -> None:
    sequence_id = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0]])
    assert document_positions(sequence_id).tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]]


def test_gpt2_with_learned_positions_is_masked_too() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=16)).eval()
    assert masks_documents(model)


@pytest.mark.parametrize("build", [replit, llama])
def test_the_repeated_blocks_are_found_for_sharding(build) -> None:
    assert len(transformer_blocks(build())) == 2


def test_evaluation_gives_the_loss_of_each_token() -> None:
    torch.manual_seed(0)
    model = wrapped(replit()).eval()
    batch = Collator(EOS)([torch.cat(DOCUMENTS)])
    losses = model.eval_forward(batch)
    predicted = (batch["labels"][:, 1:] != -100).sum()
    assert losses.shape == (1, 11)
    assert torch.allclose(losses.sum() / predicted, model.loss(model(batch), batch), atol=1e-5)
