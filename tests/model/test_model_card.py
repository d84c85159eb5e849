"""The code on replit-code-v1-3b's model card, as its readers type it: only the path is another one."""

import functools
import logging
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

import codelm.model  # noqa: F401
from codelm.errors import ConfigError
from codelm.model import ReplitCodeForCausalLM, attention
from codelm.tokenizer import CodeTokenizer

DEVICE = "cuda:0" if torch.cuda.is_available() else "cpu"


@pytest.fixture
def path(published_folder) -> Path:
    """Stands for 'replit/replit-code-v1-3b'."""
    return published_folder


def test_load(path) -> None:
    # load model
    model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)

    assert type(model) is ReplitCodeForCausalLM
    assert not model.training
    assert model.generation_config.eos_token_id == 1


def test_the_triton_implementation_in_bf16(path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(attention, "_said", set())
    caplog.set_level(logging.WARNING, logger="codelm")
    config = AutoConfig.from_pretrained(path, trust_remote_code=True)
    config.attn_config["attn_impl"] = "triton"

    # load model
    model = AutoModelForCausalLM.from_pretrained(path, config=config, trust_remote_code=True)
    model.to(device=DEVICE, dtype=torch.bfloat16)

    # forward pass
    x = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]])
    x = x.to(device=DEVICE)
    y = model(x)
    y = model(x)

    assert model.config.attn_config["attn_impl"] == "triton"
    assert y.logits.dtype == torch.bfloat16
    exact = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)(x.cpu()).logits
    assert (y.logits.cpu() - exact).norm() / exact.norm() < 0.02
    said = [record.message for record in caplog.records if record.name.startswith("codelm")]
    on_cpu = ["attn_impl triton needs a CUDA device; on the CPU attention is computed by attn_impl torch"]
    assert said == (on_cpu if DEVICE == "cpu" else [])


def test_the_tokenizer(path) -> None:
    model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)

    # load tokenizer
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)

    # single input encoding + generation
    x = tokenizer.encode('def hello():\n  print("hello world")\n', return_tensors="pt")
    y = model.generate(x)

    # decoding, clean_up_tokenization_spaces=False to ensure syntactical correctness
    generated_code = tokenizer.decode(y[0], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    assert x.tolist() == [CodeTokenizer(path).encode('def hello():\n  print("hello world")\n')]
    assert y.shape[1] > x.shape[1]
    assert generated_code.startswith('def hello():\n  print("hello world")\n')


def test_generation(path) -> None:
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
    model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)

    x = tokenizer.encode("def fibonacci(n): ", return_tensors="pt")
    y = model.generate(
        x,
        max_length=100,
        do_sample=True,
        top_p=0.95,
        top_k=4,
        temperature=0.2,
        num_return_sequences=1,
        eos_token_id=tokenizer.eos_token_id,
    )

    # decoding, clean_up_tokenization_spaces=False to ensure syntactical correctness
    generated_code = tokenizer.decode(y[0], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    assert generated_code.startswith("def fibonacci(n): ")
    assert tokenizer.eos_token_id == 1
    assert y.shape[1] == 100 or y[0, -1] == 1, (
        "past the 64 tokens that it was trained at, up to the end that was asked for"
    )


class TestFewerBits:
    """`load_in_8bit` and `load_in_4bit` are gone from transformers 5, and work with this model all the same."""

    @pytest.fixture(autouse=True)
    def _bitsandbytes(self) -> None:
        pytest.importorskip("bitsandbytes")

    @pytest.fixture
    def check(self, rounded_to_4_bits):
        """Compare with the whole model in 8 bits, and in 4 with one whose weights were rounded plainly."""
        return functools.partial(self._check, rounded_to_4_bits)

    def _check(self, rounded_to_4_bits, path: Path, model: ReplitCodeForCausalLM, layer: str) -> None:
        assert type(model) is ReplitCodeForCausalLM
        assert {type(block.ffn.up_proj).__name__ for block in model.transformer.blocks} == {layer}
        assert model.lm_head.weight is model.transformer.wte.weight
        x = torch.arange(10)[None]
        whole = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)
        if layer == "Linear4bit":
            whole = rounded_to_4_bits(whole, "fp4")
        with torch.no_grad():
            exact = whole(x).logits
            error = (model(x.to(model.device)).logits.float().cpu() - exact).norm() / exact.norm()
        # bitsandbytes computes in bf16 where the processor has it.
        assert error < 0.03
        assert model.generate(x.to(model.device), max_new_tokens=3, do_sample=False).shape == (1, 13)

    def test_8_bits(self, path, check) -> None:
        model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, device_map="auto", load_in_8bit=True)

        check(path, model, "Linear8bitLt")

    def test_4_bits(self, path, check) -> None:
        model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True, device_map="auto", load_in_4bit=True)

        check(path, model, "Linear4bit")

    @pytest.mark.parametrize(("switch", "layer"), [("load_in_8bit", "Linear8bitLt"), ("load_in_4bit", "Linear4bit")])
    def test_as_transformers_says_it_today(self, path, check, switch, layer) -> None:
        config = BitsAndBytesConfig(**{switch: True})
        model = AutoModelForCausalLM.from_pretrained(path, device_map="auto", quantization_config=config)
        check(path, model, layer)

    def test_a_switch_that_is_off_changes_nothing(self, path) -> None:
        model = AutoModelForCausalLM.from_pretrained(path, load_in_8bit=False, load_in_4bit=False)
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

    @pytest.mark.parametrize(
        "other",
        [{"load_in_4bit": True}, {"quantization_config": BitsAndBytesConfig(load_in_4bit=True)}],
        ids=["both switches", "a switch and a configuration"],
    )
    def test_two_ways_at_once(self, path, other) -> None:
        with pytest.raises(ConfigError, match="exclude each other"):
            AutoModelForCausalLM.from_pretrained(path, load_in_8bit=True, **other)


@pytest.fixture(autouse=True)
def _no_code_of_the_folder_runs(path):
    yield
    assert not (path / "ran").exists()
