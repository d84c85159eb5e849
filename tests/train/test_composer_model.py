"""Models as Composer sees them: their blocks, the loss of each token."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from codelm.data.reading.stream import Collator
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train.composer_model import ComposerCausalLM, transformer_blocks

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
