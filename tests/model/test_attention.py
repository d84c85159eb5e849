"""The back ends of attention against a plain loop over queries, and against each other."""

import importlib.metadata
import logging
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers import StaticCache

from codelm.errors import ConfigError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM, attention
from codelm.model.attention import Pattern, alibi_slopes, flash, flex, plan_attention

HEADS, SEQ, DIM = 4, 24, 16
CPU = torch.device("cpu")
DOCUMENTS = torch.tensor([[0] * 9 + [1] * 1 + [2] * 14, [-1] * 5 + [0] * 19])
"""Three documents in one row; left padding in the other."""

PATTERNS = {
    "causal": {},
    "documents": {"groups": DOCUMENTS},
    "window": {"window": 5},
    "documents in a window": {"groups": DOCUMENTS, "window": 5},
    "without alibi": {"slopes": None},
    "documents without alibi": {"slopes": None, "groups": DOCUMENTS},
}


@pytest.fixture(params=PATTERNS, ids=str)
def pattern(request) -> Pattern:
    return Pattern(**{"slopes": alibi_slopes(HEADS), "first": 0, "queries": SEQ, "keys": SEQ} | PATTERNS[request.param])


@pytest.fixture(params=[HEADS, 2, 1], ids=["multi-head", "grouped", "multi-query"])
def tensors(request) -> list[torch.Tensor]:
    """Query `(2, 24, 4, 16)`, key and value `(2, 24, kv heads, 16)`."""
    drawn = torch.Generator().manual_seed(0)
    heads = (HEADS, request.param, request.param)
    return [torch.randn(2, SEQ, n, DIM, generator=drawn).requires_grad_() for n in heads]


def plain(pattern: Pattern, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention by its definition, one query of one head at a time."""
    rows = []
    for batch in range(len(query)):
        for place in range(query.shape[1]):
            at = pattern.first + place
            seen = [
                j
                for j in range(at + 1)
                if (pattern.window is None or at - j <= pattern.window)
                and (pattern.groups is None or pattern.groups[batch, j] == pattern.groups[batch, at])
            ]
            for head in range(HEADS):
                shared = head * key.shape[2] // HEADS
                scores = key[batch, seen, shared] @ query[batch, place, head] * scale
                if pattern.slopes is not None:
                    scores = scores + pattern.slopes[head] * (torch.tensor(seen) - at)
                rows.append(scores.softmax(-1) @ value[batch, seen, shared])
    return torch.stack(rows).view(query.shape)


def flash_attn_by_its_documentation() -> SimpleNamespace:
    """flash_attn_func and flash_attn_varlen_func as flash-attn documents them, in plain torch, for the CPU."""

    def flash_attn_func(q, k, v, dropout_p, softmax_scale, causal, window_size, alibi_slopes):
        assert causal
        assert q.dtype in (torch.float16, torch.bfloat16)
        assert alibi_slopes is None or alibi_slopes.dtype == torch.float32
        left, right = window_size
        distance = torch.arange(k.shape[1]) - torch.arange(q.shape[1])[:, None]
        hidden = (distance > (right if right >= 0 else 0)) | (distance < -left if left >= 0 else False)
        k, v = (tensor.repeat_interleave(q.shape[2] // tensor.shape[2], 2) for tensor in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) * softmax_scale
        if alibi_slopes is not None:
            scores = scores - alibi_slopes.double()[:, None, None] * distance.abs()
        return torch.einsum("bhqk,bkhd->bqhd", scores.masked_fill(hidden, -math.inf).softmax(-1), v.double()).to(
            q.dtype
        )

    def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, **options):
        assert cu_seqlens_q.dtype == torch.int32
        assert torch.equal(cu_seqlens_q, cu_seqlens_k)
        assert max_seqlen_q == max_seqlen_k == int(cu_seqlens_q.diff().max())
        lengths = cu_seqlens_q.diff().tolist()
        pieces = zip(*(tensor.split(lengths) for tensor in (q, k, v)), strict=True)
        return torch.cat([flash_attn_func(*(part[None] for part in piece), **options)[0] for piece in pieces])

    return SimpleNamespace(flash_attn_func=flash_attn_func, flash_attn_varlen_func=flash_attn_varlen_func)


def gradients(out: torch.Tensor, tensors: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((out * weights.to(out)).sum(), tensors)


@pytest.mark.parametrize("form", ["relative", "legacy"])
def test_torch_is_attention_by_its_definition(pattern, tensors, form) -> None:
    if form == "legacy" and pattern.slopes is None:
        pytest.skip("the legacy form is one of ALiBi")
    expected = plain(pattern, *tensors, scale=0.3)
    found = plan_attention("torch", form, pattern, CPU, torch.float32).attend(*tensors, scale=0.3, dropout=0.0)
    assert (found - expected).abs().max() <= 2e-6
    for ours, theirs in zip(gradients(found, tensors), gradients(expected, tensors), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5


def test_triton_is_attention_by_its_definition(pattern, tensors) -> None:
    """FlexAttention without its compiler, which runs on the CPU; newer versions refuse gradients there."""
    expected, plan = plain(pattern, *tensors, scale=0.3), flex.plan_flex(pattern, CPU)
    found = plan.attend(*(tensor.detach() for tensor in tensors), scale=0.3, dropout=0.0)
    assert (found - expected).abs().max() <= 2e-6
    try:
        found = plan.attend(*tensors, scale=0.3, dropout=0.0)
    except NotImplementedError:
        return
    for ours, theirs in zip(gradients(found, tensors), gradients(expected, tensors), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5


def test_flash_is_given_what_its_documentation_asks_for(pattern, tensors, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", flash_attn_by_its_documentation())
    halves = [tensor.detach().bfloat16().requires_grad_() for tensor in tensors]
    wide = [tensor.detach().float().requires_grad_() for tensor in halves]
    expected = plain(pattern, *wide, scale=0.3)
    found = flash.plan_flash(pattern).attend(*halves, scale=0.3, dropout=0.0)
    assert (found.float() - expected).abs().max() <= 2e-2
    for ours, theirs in zip(gradients(found, halves), gradients(expected, wide), strict=True):
        assert (ours.float() - theirs).abs().max() <= 0.05 * theirs.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("impl", ["torch", "triton", "flash"])
@pytest.mark.parametrize("seq", [SEQ, 300])
def test_all_back_ends_agree_on_a_gpu(pattern, impl, seq) -> None:
    if impl == "flash":
        pytest.importorskip("flash_attn")
    if pattern.groups is not None:
        seq = SEQ
    device, drawn = torch.device("cuda"), torch.Generator().manual_seed(0)
    wide = [torch.randn(2, seq, HEADS, 80, generator=drawn).bfloat16().float().requires_grad_() for _ in range(3)]
    changes = {"queries": seq, "keys": seq}
    here = Pattern(**{**vars(pattern), **changes})
    expected = plain(here, *wide, scale=0.1)
    moved = {name: tensor.to(device) for name, tensor in vars(here).items() if isinstance(tensor, torch.Tensor)}
    there = Pattern(**{**vars(here), **moved})
    halves = [tensor.detach().to(device, torch.bfloat16).requires_grad_() for tensor in wide]
    plan = plan_attention(impl, "relative", there, device, torch.bfloat16)
    found = plan.attend(*halves, scale=0.1, dropout=0.0)
    assert (found.float().cpu() - expected).abs().max() <= 2e-2
    for ours, theirs in zip(gradients(found, halves), gradients(expected, wide), strict=True):
        assert (ours.float().cpu() - theirs).abs().max() <= 0.05 * theirs.abs().max()


@pytest.mark.gpu
@pytest.mark.parametrize("trains", [True, False], ids=["training", "prompts"])
def test_triton_compiles_a_few_kernels_for_all_lengths(trains) -> None:
    """Past torch's limit of compiled versions it would silently materialise the scores."""
    device, drawn = torch.device("cuda"), torch.Generator("cuda").manual_seed(0)
    torch.compiler.reset()
    flex._compiled.cache_clear()
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True), torch.set_grad_enabled(trains):
        for seq in range(100, 1300, 100):
            qkv = [torch.randn(1, seq, HEADS, 80, device=device, generator=drawn).bfloat16() for _ in range(3)]
            outs = []
            for impl in ("torch", "triton"):
                tensors = [tensor.clone().requires_grad_(trains) for tensor in qkv]
                pattern = Pattern(alibi_slopes(HEADS, device=device), 0, seq, seq)
                plan = plan_attention(impl, "relative", pattern, device, torch.bfloat16)
                out = plan.attend(*tensors, scale=0.1, dropout=0.0)
                outs.append([out, *(torch.autograd.grad(out.square().sum(), tensors) if trains else ())])
            for ours, theirs in zip(*outs, strict=True):
                assert (ours - theirs).float().norm() <= 0.02 * theirs.float().norm(), seq


def test_flash_refuses_what_it_cannot_compute(tensors, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", flash_attn_by_its_documentation())
    plan = flash.plan_flash(Pattern(alibi_slopes(HEADS), 0, SEQ, SEQ))
    with pytest.raises(ConfigError, match=r"the model is in torch\.float32; use precision amp_bf16"):
        plan.attend(*tensors, scale=1.0, dropout=0.0)
    with pytest.raises(ValueError, match="a document in parts"):
        flash.plan_flash(Pattern(alibi_slopes(HEADS), 0, 4, 4, torch.tensor([[0, 1, 0, 0]])))


def small(**attn_config) -> ReplitCodeForCausalLM:
    torch.manual_seed(0)
    shape = {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 50, "max_seq_len": 32}
    return ReplitCodeForCausalLM(ReplitCodeConfig(**shape, attn_config=attn_config)).eval()


def test_flash_says_what_it_lacks_before_a_model_is_built(monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"flash-attn >= 2\.4, which is not installed; run `pip install flash-attn"):
        small(attn_impl="flash")
    monkeypatch.setattr(flash.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.3.6")
    with pytest.raises(ConfigError, match=r"flash-attn >= 2\.4 for ALiBi, and 2\.3\.6 is installed"):
        small(attn_impl="flash")


def test_triton_on_the_cpu_is_torch_and_says_so_once(caplog, ids, monkeypatch) -> None:
    monkeypatch.setattr(attention, "_said", set())
    model = small()
    expected = model(ids % 50).logits
    model.config.attn_config["attn_impl"] = "triton"
    with caplog.at_level(logging.WARNING):
        assert torch.equal(model(ids % 50).logits, expected)
        model(ids % 50)
    said = [record.message for record in caplog.records]
    assert said == ["attn_impl triton needs a CUDA device; on the CPU attention is computed by attn_impl torch"]


def test_the_implementation_of_a_loaded_config_can_be_set(ids, tmp_path) -> None:
    """FlexAttention inside the model, in the place it has on a GPU."""
    small().save_pretrained(tmp_path)
    config = ReplitCodeConfig.from_pretrained(tmp_path)
    config.attn_config["attn_impl"] = "triton"
    model = ReplitCodeForCausalLM.from_pretrained(tmp_path, config=config).eval()
    sequence_id = torch.arange(40)[None].expand(2, -1) // 17
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        expected = model(ids % 50, sequence_id=sequence_id).logits
        used = []
        patch.setattr(flex, "flex_attention", lambda *args, **kwargs: used.append(1) or flex_attention(*args, **kwargs))
        patch.setattr(attention, "_on_cpu", lambda device: False)
        assert (model(ids % 50, sequence_id=sequence_id).logits - expected).abs().max() <= 1e-5
    assert len(used) == 2


class TestLegacyForm:
    """Replit's arithmetic; tests/model/test_reference.py compares it with the original's own tensors."""

    def test_it_is_the_relative_form_in_fp32(self, ids) -> None:
        relative, legacy = small()(ids % 50).logits, small(alibi_form="legacy")(ids % 50).logits
        assert (relative - legacy).abs().max() <= 1e-5

    def test_it_rounds_near_neighbours_in_bf16(self) -> None:
        long = torch.randint(0, 50, (1, 600), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            exact = small()(long).logits
            relative = (small().bfloat16()(long).logits - exact).abs().mean()
            legacy = (small(alibi_form="legacy").bfloat16()(long).logits - exact).abs().mean()
        assert legacy > 2 * relative

    def test_padding_and_cache_change_nothing(self, ids) -> None:
        model, rows = small(alibi_form="legacy"), ids % 50
        with torch.no_grad():
            whole = model(rows).logits
            mask = torch.cat([torch.zeros(2, 7), torch.ones(2, 40)], dim=1).long()
            padded = model(torch.cat([torch.zeros(2, 7).long(), rows], dim=1), attention_mask=mask).logits[:, 7:]
            cache = model(rows[:, :30], use_cache=True).past_key_values
            stepped = torch.cat([model(rows[:, [at]], past_key_values=cache).logits for at in range(30, 40)], dim=1)
        assert (padded - whole).abs().max() <= 1e-5
        assert (stepped - whole[:, 30:]).abs().max() <= 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attn_config": {"sliding_window_size": 6}},
        {"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 2}},
        {"attn_config": {"alibi": False}},
    ],
    ids=["alibi", "window", "grouped", "learned"],
)
def test_padding_and_every_kind_of_cache_and_mask_change_nothing(make_model, ids, changes) -> None:
    model = make_model(**changes)
    with torch.no_grad():
        whole = model(ids).logits
        static = StaticCache(config=model.config, max_cache_len=48)
        found = [model(ids[:, :30], past_key_values=static).logits]
        found += [model(ids[:, at : at + 5], past_key_values=static).logits for at in (30, 35)]
        assert (torch.cat(found, dim=1) - whole).abs().max() <= 1e-5, "a cache of fixed size"

        dynamic = model(ids[:, :30], use_cache=True).past_key_values
        later = model(ids[:, 30:], past_key_values=dynamic).logits
        assert (later - whole[:, 30:]).abs().max() <= 1e-5, "a growing cache"

        pad = torch.zeros(2, 7).long()
        mask = torch.cat([pad, torch.ones_like(ids)], dim=1)
        padded = model(torch.cat([pad, ids], dim=1), attention_mask=mask)
        assert (padded.logits[:, 7:] - whole).abs().max() <= 1e-5, "left padding"

        visible = torch.ones(40, 40, dtype=torch.bool).tril()[None, None]
        assert (model(ids, attention_mask=visible).logits - whole).abs().max() <= 1e-5, "a boolean mask"
        added = torch.zeros(1, 1, 40, 40).masked_fill(~visible, torch.finfo(torch.float32).min)
        assert (model(ids, attention_mask=added).logits - whole).abs().max() <= 1e-5, "an additive mask"


def test_alibi_goes_past_the_length_trained_at_and_learned_positions_do_not(make_model, ids) -> None:
    long = torch.cat([ids, ids], dim=1)
    alibi = make_model(max_seq_len=64)(long).logits
    assert torch.equal(alibi, make_model(max_seq_len=128)(long).logits)
    with pytest.raises(ConfigError, match="80 tokens is longer than the model's table of positions, which ends at"):
        make_model(attn_config={"alibi": False})(long)
