"""What a token costs, held to llm-foundry's published figures: parameters, tokens/s and MFU of the same runs."""

import csv
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train.flops import model_costs
from codelm.train.hardware import ACCELERATORS

PUBLISHED = [*csv.DictReader((Path(__file__).parents[2] / "benchmarks" / "llm_foundry.csv").open())]
SHAPES = {
    "125m": (768, 12, 12),
    "350m": (1024, 16, 24),
    "760m": (1536, 12, 24),
    "1b": (2048, 16, 24),
    "3b": (2560, 20, 32),
    "7b": (4096, 32, 32),
    "13b": (5120, 40, 40),
}


@pytest.mark.parametrize(
    "row", PUBLISHED, ids=lambda row: f"{row['gpu']}-{row['gpus']}-{row['model']}-{row['seq_len']}"
)
def test_mfu_is_that_of_the_published_table(row: dict[str, str]) -> None:
    """Their models have learned positions and a vocabulary of 50,368."""
    width, heads, layers = SHAPES[row["model"]]
    config = ReplitCodeConfig(
        d_model=width,
        n_heads=heads,
        n_layers=layers,
        vocab_size=50368,
        max_seq_len=int(row["seq_len"]),
        attn_config={"alibi": False},
    )
    with torch.device("meta"):
        costs = model_costs(ReplitCodeForCausalLM(config), config.max_seq_len)
    share = float(row["tokens_per_second_per_gpu"]) * costs.flops_per_token() / ACCELERATORS[row["gpu"]].flops
    # They count the table of positions as if it were multiplied with, which is most of a small model at great lengths.
    assert 100 * share == pytest.approx(float(row["mfu"]), rel=0.035)


def llama(tied: bool) -> LlamaForCausalLM:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(**shape, vocab_size=100, tie_word_embeddings=tied))


def test_an_embedding_is_looked_up_and_an_output_layer_is_multiplied_with() -> None:
    untied, tied = model_costs(llama(tied=False), 16), model_costs(llama(tied=True), 16)
    assert untied.parameters == tied.parameters + 32 * 100
    assert untied.weights == tied.weights == 32 * 100 + 2 * (4 * 32 * 32 + 3 * 32 * 48)
    assert untied.attention == 2 * 32 * 16


def test_frozen_weights_cost_no_gradient_of_their_own() -> None:
    model = llama(tied=False)
    full = model_costs(model, 16)
    for parameter in model.model.parameters():
        parameter.requires_grad_(False)
    head = model_costs(model, 16)
    assert head.trainable == head.trainable_weights == 3200
    assert full.flops_per_token() - head.flops_per_token() == 2 * (full.weights - 3200)


def test_gpt2_whose_layers_are_convolutions_by_name() -> None:
    model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=16))
    assert model_costs(model, 16).weights == 3200 + 2 * 12 * 32 * 32


def test_a_sliding_window_bounds_what_a_token_sees() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
    windowed = MistralForCausalLM(MistralConfig(**shape, vocab_size=100, num_key_value_heads=4, sliding_window=4))
    assert model_costs(windowed, 16).attention == 2 * 32 * 4
    ours = ReplitCodeConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=64, attn_config={"sliding_window_size": 4})
    assert model_costs(ReplitCodeForCausalLM(ours), 16).attention == 2 * 32 * 4
