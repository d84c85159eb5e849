"""The model against transformers' own MPT, which nobody here wrote, on the same weights."""

from typing import Any

import pytest
import torch
from transformers import MptConfig, MptForCausalLM

from codelm.model import ReplitCodeForCausalLM
from codelm.model.attention import alibi_slopes

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "six-heads": {"n_heads": 6},
    "one-head": {"n_heads": 1},
    "head-dim-80": {"d_model": 240, "n_heads": 3},
    "clip": {"attn_config": {"clip_qkv": 0.5}},
    "scale": {"attn_config": {"softmax_scale": 0.4}},
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def pair(request, make_model) -> tuple[ReplitCodeForCausalLM, MptForCausalLM]:
    """Our model and transformers' MPT with its weights."""
    ours = make_model(**request.param)
    return ours, native(ours)


def native(ours: ReplitCodeForCausalLM) -> MptForCausalLM:
    config = ours.config
    names = ("d_model", "n_heads", "n_layers", "vocab_size", "max_seq_len")
    attention = {name: config.attn_config[name] for name in ("clip_qkv", "softmax_scale")}
    theirs = MptForCausalLM(MptConfig(**{name: getattr(config, name) for name in names}, attn_config=attention))
    theirs.load_state_dict(ours.state_dict())
    return theirs.eval()


def test_logits_are_those_of_native_mpt(pair, ids) -> None:
    ours, theirs = pair
    difference = (ours(ids).logits - theirs(ids).logits).abs().max()
    assert difference <= 1e-5


def test_logits_are_those_of_native_mpt_with_padding_on_the_left(pair, ids) -> None:
    ours, theirs = pair
    mask = torch.ones_like(ids)
    mask[0, :11] = 0
    difference = (ours(ids, attention_mask=mask).logits - theirs(ids, attention_mask=mask).logits)[mask.bool()]
    assert difference.abs().max() <= 1e-5


def test_logits_are_those_of_native_mpt_with_a_hole_in_the_mask(make_model, ids) -> None:
    ours, mask = make_model(), torch.ones_like(ids)
    mask[:, 9:14] = 0
    difference = (ours(ids, attention_mask=mask).logits - native(ours)(ids, attention_mask=mask).logits)[mask.bool()]
    assert difference.abs().max() <= 1e-5


def test_loss_and_gradients_are_those_of_native_mpt(pair, ids) -> None:
    ours, theirs = pair
    labels = ids.clone()
    labels[1, 5:9] = -100
    found, expected = ours.train()(ids, labels=labels), theirs(ids, labels=labels)
    found.loss.backward()
    expected.loss.backward()
    assert abs(found.loss - expected.loss).item() <= 1e-5
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        reference = gradients[name].grad
        assert torch.allclose(parameter.grad, reference, atol=1e-6, rtol=1e-4), name


def test_training_leaves_the_logits_out_and_evaluation_keeps_them(make_model, ids) -> None:
    model = make_model()
    assert model(ids, labels=ids).logits.shape == (2, 40, 600)
    loss = model(ids, labels=ids).loss
    skipped = model(ids, labels=ids, skip_logits=True)
    assert skipped.logits is None
    assert torch.allclose(skipped.loss, loss)
    model.train()
    assert model(ids, labels=ids).logits is None
    assert model(ids, labels=ids, skip_logits=False).logits is not None
    assert model(ids).logits is not None


def test_padding_on_the_left_changes_nothing(make_model, ids) -> None:
    model = make_model()
    alone = model(ids[:1, 12:]).logits
    mask = torch.ones_like(ids[:1])
    mask[:, :12] = 0
    assert (model(ids[:1], attention_mask=mask).logits[:, 12:] - alone).abs().max() <= 1e-5


@pytest.mark.parametrize("n_heads", [4, 6])
def test_the_cache_changes_nothing(make_model, ids, n_heads) -> None:
    model = make_model(n_heads=n_heads)
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    whole = model(ids, attention_mask=mask).logits
    cache, parts = None, []
    for start, end in ((0, 13), (13, 14), (14, 20), (20, 40)):
        output = model(ids[:, start:end], attention_mask=mask[:, :end], past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    assert (torch.cat(parts, dim=1) - whole)[mask.bool()].abs().max() <= 1e-5


def test_generate_is_that_of_native_mpt_with_and_without_cache(make_model, ids) -> None:
    model = make_model()
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    settings = {
        "attention_mask": mask,
        "max_new_tokens": 20,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 2,
    }
    expected = native(model).generate(ids, **settings)
    assert torch.equal(model.generate(ids, **settings), expected)
    assert torch.equal(model.generate(ids, **settings, use_cache=False), expected)


def test_sequences_may_be_longer_than_max_seq_len(make_model) -> None:
    ids = torch.randint(3, 600, (1, 150), generator=torch.Generator().manual_seed(2))
    short, long = make_model(max_seq_len=64), make_model(max_seq_len=256)
    assert torch.equal(short(ids).logits, long(ids).logits)
    assert (short(ids).logits - native(long)(ids).logits).abs().max() <= 1e-5


def test_only_the_last_logits_are_computed_when_asked(make_model, ids) -> None:
    model = make_model()
    assert torch.allclose(model(ids, logits_to_keep=3).logits, model(ids).logits[:, -3:], atol=1e-6)


def test_embeddings_can_be_passed_instead_of_ids(make_model, ids) -> None:
    model = make_model()
    assert torch.equal(model(inputs_embeds=model.transformer.wte(ids)).logits, model(ids).logits)
    with pytest.raises(ValueError, match="either input_ids or inputs_embeds"):
        model()


def test_hidden_states_end_with_what_the_output_layer_sees(make_model, ids) -> None:
    model = make_model()
    output = model(ids, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    assert torch.equal(model.lm_head(output.hidden_states[-1]), output.logits)


def test_an_argument_that_would_be_ignored_is_refused(make_model, ids) -> None:
    with pytest.raises(TypeError, match="position_ids"):
        make_model()(ids, position_ids=torch.arange(40)[None])


def test_a_mask_without_the_cached_positions_is_refused(make_model, ids) -> None:
    model = make_model()
    cache = model(ids[:, :10], use_cache=True).past_key_values
    with pytest.raises(ValueError, match=r"must be \(batch, 11\)"):
        model(ids[:, 10:11], attention_mask=torch.ones(2, 1), past_key_values=cache, use_cache=True)


def test_gradient_checkpointing_changes_no_gradient(make_model, ids) -> None:
    plain, checkpointed = make_model().train(), make_model().train()
    checkpointed.gradient_checkpointing_enable()
    runs = []
    for block in checkpointed.transformer.blocks:
        block.register_forward_pre_hook(lambda *_: runs.append(1))
    for model in (plain, checkpointed):
        model(ids, labels=ids).loss.backward()
    assert len(runs) == 4, "each block runs again in the backward pass"
    for expected, found in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        assert torch.allclose(expected.grad, found.grad, atol=1e-7)


@pytest.mark.parametrize("key", ["emb_pdrop", "resid_pdrop", "attn_pdrop"])
def test_dropout_acts_in_training_only(make_model, ids, key) -> None:
    changes = {"attn_config": {key: 0.5}} if key == "attn_pdrop" else {key: 0.5}
    model, plain = make_model(**changes), make_model()
    assert torch.equal(model(ids).logits, plain(ids).logits)
    assert not torch.allclose(model.train()(ids).logits, plain(ids).logits, atol=1e-2)


def test_low_precision_norm_computes_in_the_autocast_type(make_model, ids) -> None:
    model, seen = make_model(), []
    model.transformer.norm_f.register_forward_hook(lambda _, args, output: seen.append(output.dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids).logits
    assert seen == [torch.bfloat16]
    assert (logits - model(ids).logits).abs().mean() < 0.05


def test_a_bf16_model_is_close_to_the_fp32_one_far_into_a_sequence(make_model) -> None:
    ids = torch.randint(3, 600, (1, 1024), generator=torch.Generator().manual_seed(2))
    model = make_model()
    with torch.no_grad():
        exact = model(ids).logits
        rounded = model.to(torch.bfloat16)(ids).logits.float()
    # The published row form, rounded to bf16, is off by 0.05 here.
    error = (rounded - exact).norm(dim=-1) / exact.norm(dim=-1)
    assert error[0, 512:].mean() < 0.03


def test_slopes_of_a_power_of_two_are_the_papers() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-exponent for exponent in range(1, 9)]


def test_initialisation_is_that_of_the_published_code(make_model) -> None:
    model = make_model(d_model=256, n_heads=4, n_layers=8, vocab_size=2000)
    block = model.transformer.blocks[3]
    kaiming = (2 / 256) ** 0.5
    for piece in (*block.attn.Wqkv.weight.chunk(3), block.ffn.up_proj.weight, model.transformer.wte.weight):
        assert float(piece.detach().std()) == pytest.approx(kaiming, rel=0.02)
        assert abs(float(piece.detach().mean())) < 0.05 * kaiming
    assert float(block.attn.out_proj.weight.detach().std()) == pytest.approx(kaiming / 4, rel=0.02)
    assert float(block.ffn.down_proj.weight.detach().std()) == pytest.approx((2 / 1024) ** 0.5 / 4, rel=0.02)
    assert block.norm_1.weight.tolist() == [1.0] * 256


def test_the_output_layer_stays_tied_to_the_embedding(make_model, tmp_path) -> None:
    model = make_model()
    assert model.lm_head.weight is model.transformer.wte.weight
    model.save_pretrained(tmp_path)
    loaded = ReplitCodeForCausalLM.from_pretrained(tmp_path)
    assert loaded.lm_head.weight is loaded.transformer.wte.weight
    for (name, expected), found in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert torch.equal(expected, found), name
