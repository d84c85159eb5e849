"""Packed documents do not see each other: in every family of models they have the loss and gradients that they have
alone, or it is known that they do not."""

from typing import Any

import pytest
import torch
import transformers
from packaging import version
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from codelm.data.reading.stream import Collator
from codelm.errors import ConfigError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train.composer_model import ComposerCausalLM
from codelm.train.packed import FLASH, Way, document_positions, find_way, model_inputs, model_labels

EOS, VOCAB = 1, 64
USUAL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
HEADS_OF_8 = {**USUAL, "head_dim": 8}
WINDOW = {"sliding_window": 8}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCAB, "n_positions": 64}
FAMILIES: dict[str, tuple[str, dict[str, Any], Way]] = {
    # SmolLM2, DeepSeek-Coder 1, CodeLlama and Yi-Coder are Llamas; Qwen2.5-Coder is a Qwen2.
    "llama": ("llama", USUAL, Way.POSITIONS),
    "qwen2": ("qwen2", USUAL, Way.POSITIONS),
    "qwen3": ("qwen3", HEADS_OF_8, Way.POSITIONS),
    "starcoder2": ("starcoder2", {**USUAL, "sliding_window": None}, Way.POSITIONS),
    "starcoder2 with a window": ("starcoder2", {**USUAL, **WINDOW}, Way.POSITIONS),
    "mistral with a window": ("mistral", {**USUAL, **WINDOW}, Way.POSITIONS),
    "mixtral": ("mixtral", {**USUAL, "num_local_experts": 2}, Way.POSITIONS),
    "gemma": ("gemma", HEADS_OF_8, Way.POSITIONS),
    "gemma2": ("gemma2", {**HEADS_OF_8, **WINDOW}, Way.POSITIONS),
    "gemma3": ("gemma3_text", {**HEADS_OF_8, **WINDOW}, Way.POSITIONS),
    "phi": ("phi", USUAL, Way.POSITIONS),
    "granite": ("granite", {**USUAL, "logits_scaling": 3.0}, Way.POSITIONS),
    "gpt_neox": ("gpt_neox", USUAL, Way.POSITIONS),
    "gpt2": ("gpt2", GPT2, Way.POSITIONS),
    "gpt_bigcode": ("gpt_bigcode", GPT2, Way.POSITIONS),
    "falcon": ("falcon", USUAL, Way.MASK),
    "opt": ("opt", {**USUAL, "ffn_dim": 48, "word_embed_proj_dim": 32}, Way.MASK),
    "codegen": ("codegen", {**GPT2, "rotary_dim": 4}, Way.POSITIONS),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 2, "n_heads": 4, "vocab_size": VOCAB, "max_seq_len": 64}, Way.MASK),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4, "vocab_size": VOCAB}, Way.NONE),
    "mamba": ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": VOCAB, "state_size": 4}, Way.NONE),
}
if version.parse(transformers.__version__).major < 5:
    FAMILIES["codegen"] = (*FAMILIES["codegen"][:2], Way.MASK)
    FAMILIES["mpt"] = (*FAMILIES["mpt"][:2], Way.NONE)
ONLY_EAGER = {"codegen", "mpt", "bloom", "mamba"}
ROWS = [
    [torch.tensor([5, 6, 7, 8, EOS]), torch.tensor([9, 4, 3, EOS]), torch.tensor([12, 13, 14, 15, 16, 17, 18, 19, 20])],
    [torch.tensor([*range(20, 31), EOS]), torch.tensor([31, 32, 33, EOS]), torch.tensor([EOS]), torch.tensor([EOS])],
]


def build(family: str, attn_impl: str = "sdpa") -> PreTrainedModel:
    """A small model with weights large enough that attention is far from even."""
    name, fields, _ = FAMILIES[family]
    torch.manual_seed(0)
    attn_impl = "eager" if name in ONLY_EAGER else attn_impl
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **fields), attn_implementation=attn_impl)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.normal_(0, 0.2)
    return model


def replit() -> PreTrainedModel:
    torch.manual_seed(0)
    return ReplitCodeForCausalLM(ReplitCodeConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=VOCAB, max_seq_len=64))


def wrapped(model: PreTrainedModel) -> ComposerCausalLM:
    return ComposerCausalLM(model, torch.ones(VOCAB, dtype=torch.int32)).eval()


def with_gradients(model: ComposerCausalLM, batch: Any) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    loss = model.loss(model(batch), batch)
    trained = list(model.model.parameters())
    found = torch.autograd.grad(loss, trained, allow_unused=True)
    return loss, tuple(torch.zeros_like(p) if g is None else g for p, g in zip(trained, found, strict=True))


def packed_and_alone(model: ComposerCausalLM) -> tuple[Any, Any]:
    """The loss and gradients of two rows of documents, and those of the documents by themselves."""
    packed = with_gradients(model, Collator(EOS)([torch.cat(row) for row in ROWS]))
    documents = [document for row in ROWS for document in row if len(document) > 1]
    predicted = sum(len(document) - 1 for document in documents)
    loss, gradients = torch.zeros(()), [torch.zeros_like(p) for p in model.model.parameters()]
    for document in documents:
        share = (len(document) - 1) / predicted
        own, its = with_gradients(model, Collator(EOS)([document]))
        loss = loss + own * share
        gradients = [total + gradient * share for total, gradient in zip(gradients, its, strict=True)]
    return packed, (loss, gradients)


def assert_alike(one: Any, other: Any) -> None:
    assert torch.allclose(one[0], other[0], rtol=1e-5)
    for a, b in zip(one[1], other[1], strict=True):
        assert torch.allclose(a, b, atol=2e-5 * max(1e-3, float(b.abs().max())), rtol=1e-3)


@pytest.mark.parametrize("family", [name for name, (_, _, way) in FAMILIES.items() if way is not Way.NONE])
def test_packed_documents_have_the_loss_and_gradients_of_the_documents_alone(family: str) -> None:
    model = wrapped(build(family))
    assert model.way is FAMILIES[family][2]
    assert_alike(*packed_and_alone(model))


def test_ours_are_told_their_documents_by_number() -> None:
    model = wrapped(replit())
    assert model.way is Way.SEQUENCE_ID
    assert_alike(*packed_and_alone(model))


@pytest.mark.parametrize("family", [name for name, (_, _, way) in FAMILIES.items() if way is Way.NONE])
def test_that_a_model_cannot_keep_documents_apart_is_known(family: str) -> None:
    model = wrapped(build(family))
    assert not model.masks_documents
    packed, alone = packed_and_alone(model)
    assert not torch.allclose(packed[0], alone[0], rtol=1e-5)


def test_a_model_that_ignores_what_it_is_given_is_found_out_with_fresh_weights_too() -> None:
    name, fields, _ = FAMILIES["llama"]
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **fields))
    assert find_way(model) is Way.POSITIONS
    forward = model.forward
    model.forward = lambda attention_mask=None, position_ids=None, **rest: forward(**rest)
    assert find_way(model) is Way.NONE


def test_one_mask_for_all_layers_is_not_given_to_a_model_with_windows() -> None:
    model = build("mistral with a window")
    forward = model.forward
    model.forward = lambda position_ids=None, attention_mask=None, **rest: forward(
        attention_mask=attention_mask, **rest
    )
    assert find_way(model) is Way.NONE


def test_trying_changes_neither_mode_nor_random_numbers() -> None:
    model = build("gpt2").train()
    before = torch.get_rng_state()
    find_way(model)
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


def test_positions_restart_in_every_document() -> None:
    sequence_id = torch.tensor([[0, 0, 0, 1, 1, 2], [0, 0, 0, 0, 0, 0]])
    assert document_positions(sequence_id).tolist() == [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5]]


def test_what_flash_attention_is_given_has_the_loss_and_gradients_of_the_rows() -> None:
    """One long row; computed here by SDPA, which tells documents apart by the same positions."""
    model = wrapped(build("llama"))
    batch = Collator(EOS)([torch.cat(row) for row in ROWS])
    assert int(model_inputs(Way.FLAT_POSITIONS, batch, torch.float32)["input_ids"].shape[0]) == 1
    rows = with_gradients(model, batch)
    evaluated = model.eval_forward(batch)
    model.way = Way.FLAT_POSITIONS
    assert_alike(with_gradients(model, batch), rows)
    assert torch.allclose(model.eval_forward(batch), evaluated, atol=1e-5)
    flat = model_labels(Way.FLAT_POSITIONS, torch.arange(6).view(2, 3))
    assert flat.tolist() == [[-100, 1, 2, -100, 4, 5]]


def test_flash_attention_is_refused_for_a_model_that_needs_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("falcon")
    chosen = []
    monkeypatch.setattr(model, "set_attn_implementation", chosen.append)
    model.config._attn_implementation_internal = FLASH
    with pytest.raises(ConfigError, match="flash keeps packed documents apart by positions alone, which FalconFor"):
        find_way(model)
    assert chosen == ["sdpa", FLASH]
