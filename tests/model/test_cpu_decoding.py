"""What makes decoding fast on a CPU lasts for one generation and changes no token."""

import pytest
import torch

from codelm.model import cpu_decoding
from codelm.model.cpu_decoding import decoding_fast_on_cpu
from codelm.model.generation import generate

PROMPTS = [[5, 6, 7], [9, 10, 11, 12, 13]]


@pytest.fixture
def model(make_model, monkeypatch):
    """A model whose output layer counts as large."""
    monkeypatch.setattr(cpu_decoding, "_PIECE_ELEMENTS", 48 * 70)
    return make_model()


@pytest.fixture(params=[False, True], ids=["denormals", "flushed"])
def flushing(request):
    """What the caller had set; most tests run with denormal numbers."""
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(False)


def denormals_count_as_zero():
    return float(torch.tensor(1e-39) * 1.0) == 0.0


def in_pieces(model):
    return "forward" in vars(model.get_output_embeddings())


def test_both_are_on_inside_and_undone_behind(model, flushing):
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush denormal numbers")
    torch.set_flush_denormal(flushing)
    with decoding_fast_on_cpu(model):
        assert in_pieces(model)
        assert denormals_count_as_zero()
    assert not in_pieces(model)
    assert denormals_count_as_zero() == flushing


def test_an_exception_undoes_them_too(model, flushing):
    def fail(place, ids):
        assert in_pieces(model)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(model, PROMPTS, eos_id=1, max_new_tokens=4, stop=fail)
    assert not in_pieces(model)
    assert denormals_count_as_zero() == flushing


@pytest.mark.parametrize("rows", [1, 8, 64, 65])
def test_the_pieces_are_the_whole(model, rows):
    head = model.get_output_embeddings()
    x = torch.randn(rows, 1, 48, generator=torch.Generator().manual_seed(2))
    whole = head(x)
    with decoding_fast_on_cpu(model):
        assert torch.allclose(head(x), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_no_token_changes(model, monkeypatch, temperature):
    options = {"eos_id": 1, "max_new_tokens": 24, "temperature": temperature, "batch_size": 2}
    fast = generate(model, PROMPTS, **options)
    monkeypatch.setattr(cpu_decoding, "_FEWEST_PIECES", 10**9)
    assert generate(model, PROMPTS, **options) == fast


def test_a_layer_that_computes_something_else_is_left_alone(model):
    class Doubling(torch.nn.Linear):
        def forward(self, input):
            return 2 * super().forward(input)

    model.set_output_embeddings(Doubling(48, 600, bias=False))
    with decoding_fast_on_cpu(model):
        assert not in_pieces(model)
