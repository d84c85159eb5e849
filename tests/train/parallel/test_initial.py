"""First weights are a function of the seed and their names: on ranks, whole, or in another order they are the same."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train.parallel.initial import FirstWeights, fresh_model, shapes_only, without_memory

TINY: dict[str, Any] = {"d_model": 64, "n_heads": 4, "vocab_size": 128, "max_seq_len": 64}


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.named_parameters())


def test_a_seed_names_the_weights_and_another_seed_others() -> None:
    config = ReplitCodeConfig(**TINY, n_layers=2)
    one, again, other = (weights(fresh_model(config, seed)) for seed in (17, 17, 18))
    assert all(torch.equal(one[name], again[name]) for name in one)
    drawn = [name for name in one if "norm" not in name]
    assert not any(torch.equal(one[name], other[name]) for name in drawn)


def test_a_deeper_model_begins_as_the_shallower_one() -> None:
    shallow, deep = (weights(fresh_model(ReplitCodeConfig(**TINY, n_layers=n), 17)) for n in (1, 2))
    same = [name for name in shallow if "out_proj" not in name and "down_proj" not in name]
    assert all(torch.equal(shallow[name], deep[name]) for name in same)


def test_weights_are_spread_as_the_models_own_initialisation_spreads_them() -> None:
    config = ReplitCodeConfig(**TINY, n_layers=2, no_bias=False)
    ours, theirs = weights(fresh_model(config, 17)), weights(ReplitCodeForCausalLM(config))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert float(weight.detach().std()) == pytest.approx(float(theirs[name].detach().std()), rel=0.1), name
        assert float(weight.detach().mean()) == pytest.approx(float(theirs[name].detach().mean()), abs=0.01), name


def test_the_output_layer_stays_tied() -> None:
    model = fresh_model(ReplitCodeConfig(**TINY, n_layers=1), 17)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_torchs_generator_stays_where_it_was() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    fresh_model(ReplitCodeConfig(**TINY, n_layers=1), 17)
    assert torch.equal(torch.rand(2), expected)


def test_module_by_module_as_fsdp1_draws_them_they_are_the_same() -> None:
    config = ReplitCodeConfig(**TINY, n_layers=2)
    model = shapes_only(config, 17)
    assert isinstance(model.param_init_fn, FirstWeights)
    for module in reversed([*model.modules()]):
        if module is not model.lm_head and next(module.parameters(recurse=False), None) is not None:
            module.to_empty(device="cpu", recurse=False)
            model.param_init_fn(module)
    whole = weights(fresh_model(config, 17))
    found = {name: weight for name, weight in weights(model).items() if name != "lm_head.weight"}
    assert all(torch.equal(weight, whole[name]) for name, weight in found.items())


def test_another_model_can_be_built_without_memory_but_for_its_buffers() -> None:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        tie_word_embeddings=True,
    )
    model, real = without_memory(lambda: LlamaForCausalLM(config)), LlamaForCausalLM(config)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.lm_head.weight is model.model.embed_tokens.weight
    buffers = dict(real.named_buffers())
    assert buffers
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in model.named_buffers())
    assert not LlamaForCausalLM(config).lm_head.weight.is_meta
