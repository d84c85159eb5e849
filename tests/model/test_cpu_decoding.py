"""What makes decoding fast on a CPU lasts for one generation and changes no token."""

import pytest
import torch

from codelm.model import cpu_decoding
from codelm.model.cpu_decoding import decoding_fast_on_cpu
from codelm.model.generation import generate

PROMPTS = [[5, 6, 7], [9, 10, 11, 12, 13]]


@pytest.fixture
def model(make_model, monkeypatch):
    """A model all of whose layers count as large."""
    monkeypatch.setattr(cpu_decoding, "_FEWEST_ELEMENTS", 1)
    return make_model()


@pytest.fixture(params=[False, True], ids=["denormals", "flushed"])
def flushing(request):
    """What the caller had set; most tests run with denormal numbers."""
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(False)


def denormals_count_as_zero():
    return float(torch.tensor(1e-39) * 1.0) == 0.0


def packed(model):
    """The layers whose weights are laid out anew."""
    return {name for name, module in model.named_modules() if "forward" in vars(module)}


def test_both_are_on_inside_and_undone_behind(model, flushing):
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    torch.set_flush_denormal(flushing)
    with decoding_fast_on_cpu(model):
        assert {"lm_head", "transformer.blocks.1.attn.Wqkv"} < packed(model)
        assert denormals_count_as_zero()
    assert not packed(model)
    assert denormals_count_as_zero() == flushing


def test_an_exception_undoes_them_too(model, flushing):
    def fail(place, ids):
        assert packed(model)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, PROMPTS, eos_id=1, max_new_tokens=4, stop=fail)
    assert not packed(model)
    assert denormals_count_as_zero() == flushing


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("rows", [1, 8, 65])
def test_a_packed_layer_computes_what_it_did(rows, bias, monkeypatch):
    monkeypatch.setattr(cpu_decoding, "_FEWEST_ELEMENTS", 1)
    torch.manual_seed(2)
    model, x = torch.nn.Sequential(torch.nn.Linear(48, 600, bias=bias)), torch.randn(rows, 3, 48)
    whole = model(x)
    with decoding_fast_on_cpu(model), torch.no_grad():
        assert packed(model) == {"0"}
        found = model(x)
        assert (found - whole).abs().max() <= 1e-5
        assert (model(x.transpose(0, 1)).transpose(0, 1) - whole).abs().max() <= 1e-5, "rows that do not lie in a row"


def test_under_autocast_it_computes_in_the_autocast_type(model):
    ids = torch.tensor(PROMPTS[:1])
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        expected = model(ids).logits
        with decoding_fast_on_cpu(model):
            assert torch.equal(model(ids).logits, expected)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_no_token_changes(model, monkeypatch, temperature):
    options = {"eos_id": 1, "max_new_tokens": 24, "temperature": temperature, "batch_size": 2}
    fast = generate(model, PROMPTS, **options)
    monkeypatch.setattr(cpu_decoding, "_FEWEST_ELEMENTS", 10**9)
    assert generate(model, PROMPTS, **options) == fast


def test_only_the_largest_layers_of_a_large_model_are_packed(model, monkeypatch):
    monkeypatch.setattr(cpu_decoding, "_MOST_BYTES", 600 * 48 * 4 + 100)
    with decoding_fast_on_cpu(model):
        assert packed(model) == {"lm_head"}


def test_small_layers_and_other_types_are_left_alone(make_model):
    for model in (make_model(), make_model(d_model=512, vocab_size=600).bfloat16()):
        with decoding_fast_on_cpu(model):
            assert not packed(model)


def test_a_layer_that_computes_something_else_is_left_alone(model):
    class Doubling(torch.nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    model.set_output_embeddings(Doubling(48, 600, bias=False))
    with decoding_fast_on_cpu(model):
        assert "lm_head" not in packed(model)
