"""Loading in 8 and 4 bits, by bitsandbytes itself, on the CPU."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from codelm.errors import CheckpointError, ConfigError, EnvironmentFailure
from codelm.model import ReplitCodeForCausalLM
from codelm.model.generation import generate
from codelm.model.pretrained import load, save_transformers
from codelm.model.quantization import is_quantized, quantize, weight_bytes

bnb = pytest.importorskip("bitsandbytes")
SWITCHES = [{"load_in_8bit": True}, {"load_in_4bit": True}]
DTYPES = [torch.float32, torch.bfloat16]


@pytest.fixture
def saved(make_model, tokenizer_folder, tmp_path) -> Path:
    """A checkpoint whose layers are wide enough for blocks of 64 weights."""
    model = make_model(d_model=128, attn_config={"qk_ln": True}, no_bias=False)
    save_transformers(model, model.config, tokenizer_folder, tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_it_computes_nearly_what_the_whole_model_does(saved, ids, switch, dtype, gradients) -> None:
    """Without gradients bitsandbytes takes other ways on some processors."""
    whole, _ = load(saved, dtype=dtype)
    small, _ = load(saved, dtype=dtype, **switch)
    assert type(small) is ReplitCodeForCausalLM
    with torch.set_grad_enabled(gradients):
        expected, found = whole(ids).logits.float(), small(ids).logits.float()
    error = (found - expected).norm() / expected.norm()
    assert 1e-4 < error < (0.03 if "load_in_8bit" in switch else 0.3), "identical would mean that nothing was quantised"


@pytest.mark.parametrize(("switch", "kind"), [*zip(SWITCHES, [torch.int8, torch.uint8], strict=True)], ids=str)
def test_the_layers_of_the_blocks_become_small_and_nothing_else(saved, switch, kind) -> None:
    whole, small = load(saved)[0], load(saved, **switch)[0]
    linear = {name for name, module in whole.named_modules() if isinstance(module, nn.Linear)} - {"lm_head"}
    assert len(linear) == 2 * 4
    for name, parameter in small.named_parameters():
        layer, _, role = name.rpartition(".")
        assert parameter.dtype == (kind if layer in linear and role == "weight" else torch.float32), name
    assert small.lm_head.weight is small.transformer.wte.weight
    assert type(small.lm_head) is nn.Linear


@pytest.mark.parametrize(("switch", "bits"), [*zip(SWITCHES, [8, 4.5], strict=True)], ids=str)
def test_its_size_is_what_the_bits_say(saved, switch, bits) -> None:
    whole, small = load(saved)[0], load(saved, **switch)[0]
    weights = sum(m.weight.numel() for n, m in whole.named_modules() if isinstance(m, nn.Linear) and n != "lm_head")
    saving = weight_bytes(whole) - weight_bytes(small)
    assert saving == pytest.approx(weights * (32 - bits) / 8, rel=0.02)
    assert weight_bytes(whole) == 4 * whole.num_parameters()


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_it_generates_without_a_word_for_every_layer(saved, switch, caplog) -> None:
    model, tokenizer = load(saved, **switch)
    prompts = [tokenizer.encode(text) for text in ("def f(x):\n    return", "import")]
    settings = {"eos_id": tokenizer.eos_id, "pad_id": tokenizer.pad_id, "max_new_tokens": 8}
    together = generate(model, prompts, **settings)
    alone = [generate(model, [prompt], **settings)[0] for prompt in prompts]
    assert [len(tokens) for tokens in together] == [8, 8]
    assert together == alone
    assert not [record for record in caplog.records if record.name.startswith("bitsandbytes")]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_any_model_of_transformers(tmp_path, ids, switch, architecture) -> None:
    torch.manual_seed(0)
    if architecture == "llama":
        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(vocab_size=600, **shape, tie_word_embeddings=False))
    else:  # its layers are Conv1D, weights transposed
        model = GPT2LMHeadModel(GPT2Config(vocab_size=600, n_embd=64, n_layer=1, n_head=2, n_positions=64))
    model.save_pretrained(tmp_path / "model")
    Tokenizer(models.BPE({chr(0x21 + index): index for index in range(90)}, [])).save(
        str(tmp_path / "model" / "tokenizer.json")
    )
    whole, _ = load(tmp_path / "model")
    small, _ = load(tmp_path / "model", **switch)
    with torch.no_grad():
        expected, found = whole(ids).logits, small(ids).logits
    assert is_quantized(small)
    assert not is_quantized(whole)
    assert 1e-4 < (found - expected).norm() / expected.norm() < 0.3
    assert small.get_output_embeddings().weight.dtype == torch.float32


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_4_bits_are_those_of_a_plain_implementation(make_model, rounded_to_4_bits, ids, kind, gradients) -> None:
    model = make_model(d_model=128)
    expected = rounded_to_4_bits(model, kind)(ids).logits
    assert (expected - model(ids).logits).norm() / expected.norm() > 0.1
    quantize(model, kind)
    with torch.set_grad_enabled(gradients):
        error = (model(ids).logits - expected).norm() / expected.norm()
    assert error < 1e-4


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
@pytest.mark.parametrize("way", ["load", "Auto class"])
def test_gradients_flow_through_it_also_after_it_was_used(saved, ids, switch, way) -> None:
    """As adapters need it; bitsandbytes' own layers forget how on processors with bf16."""

    def loaded() -> Any:
        return load(saved, **switch)[0] if way == "load" else AutoModelForCausalLM.from_pretrained(saved, **switch)

    def gradient(model: Any) -> torch.Tensor:
        embedded = model.transformer.wte(ids).detach().requires_grad_()
        model.train()(inputs_embeds=embedded, labels=ids).loss.backward()
        return embedded.grad

    fresh, used = loaded(), loaded()
    with torch.no_grad():
        used(ids)
    expected = gradient(fresh)
    assert expected.norm() > 0
    assert torch.allclose(gradient(used), expected, rtol=1e-3, atol=1e-5)


def test_fp4_loses_more_than_nf4(saved, ids) -> None:
    whole = load(saved)[0](ids).logits
    errors = {}
    for kind in ("int8", "nf4", "fp4"):
        model = load(saved)[0]
        quantize(model, kind)
        errors[kind] = float((model(ids).logits - whole).norm())
    assert errors["int8"] < errors["nf4"] < errors["fp4"]


def test_a_layer_that_is_no_multiple_of_a_block_stays_whole_in_4_bits(ids) -> None:
    """bitsandbytes would read the wrong scales, or break off, as the processor has it."""
    torch.manual_seed(0)
    shape = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=600, **shape)).eval()
    with torch.no_grad():
        exact = model(ids).logits
        quantize(model, "nf4")
        kinds = {name.rpartition(".")[2]: type(module).__name__ for name, module in model.named_modules()}
        assert (kinds["up_proj"], kinds["down_proj"]) == ("Linear4bit", "Linear"), "64 inputs, and 96"
        assert 1e-4 < (model(ids).logits - exact).norm() / exact.norm() < 0.3


def test_a_model_without_blocks_is_refused_in_4_bits_and_taken_in_8(make_model, tokenizer_folder, tmp_path) -> None:
    model = make_model(d_model=48)
    save_transformers(model, model.config, tokenizer_folder, tmp_path / "narrow")
    with pytest.raises(ConfigError, match="has 48 inputs and 144 outputs, and 4 bits need multiples of 64 and 32"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "narrow", load_in_4bit=True)
    with pytest.raises(ConfigError, match=r"no linear layers that could be loaded .* multiples of 64 inputs"):
        load(tmp_path / "narrow", load_in_4bit=True)
    assert is_quantized(load(tmp_path / "narrow", load_in_8bit=True)[0])


def test_both_at_once(saved) -> None:
    with pytest.raises(ConfigError, match="exclude each other"):
        load(saved, load_in_8bit=True, load_in_4bit=True)


def test_without_bitsandbytes(saved, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    load(saved)
    with pytest.raises(EnvironmentFailure, match="needs the package bitsandbytes: pip install"):
        load(saved, load_in_8bit=True)


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_small_weights_are_not_saved_or_made_smaller(saved, tokenizer_folder, tmp_path, switch) -> None:
    model, _ = load(saved, **switch)
    with pytest.raises(CheckpointError, match="in 8 or 4 bits cannot be saved"):
        save_transformers(model, model.config, tokenizer_folder, tmp_path / "again")
    assert not (tmp_path / "again").exists()
    with pytest.raises(ConfigError, match="is quantised already"):
        quantize(model, "nf4")


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_the_type_of_small_weights_cannot_be_changed(saved, switch) -> None:
    model, _ = load(saved, **switch)
    with pytest.raises(ValueError, match=r"\.half\(\)|dtype"):
        model.half()
