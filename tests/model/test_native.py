"""What leaves as native MPT is computed there as by us, and what is not is named; asked of transformers itself."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import MptConfig, MptForCausalLM

from codelm.errors import CheckpointError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.native import native_config, native_obstacle, own_config

SHAPE = {"d_model": 48, "n_heads": 4, "n_layers": 2, "vocab_size": 600, "max_seq_len": 256}
SAME = [
    {},
    {"n_heads": 6},
    {"norm_type": "layernorm"},
    {"logit_scale": 1.0},
    {"layer_norm_epsilon": 1e-3},
    {"learned_pos_emb": False},
    {"embedding_fraction": 0.5, "emb_pdrop": 0.1, "resid_pdrop": 0.1},
    {"attn_config": {"clip_qkv": 0.5}},
    {"attn_config": {"softmax_scale": 0.3}},
    {"attn_config": {"attn_pdrop": 0.1}},
]
DIFFERENT = {
    "expansion_ratio 3": {"expansion_ratio": 3},
    "logit_scale 2.0": {"logit_scale": 2.0},
    "logit_scale inv_sqrt_d_model": {"logit_scale": "inv_sqrt_d_model"},
    "no_bias False": {"no_bias": False},
    "norm_type rmsnorm": {"norm_type": "rmsnorm"},
    "norm_type low_precision_rmsnorm": {"norm_type": "low_precision_rmsnorm"},
    "attn_config.alibi False": {"attn_config": {"alibi": False}},
    "attn_config.alibi_bias_max 4": {"attn_config": {"alibi_bias_max": 4}},
    "attn_config.alibi_form legacy": {"attn_config": {"alibi_form": "legacy"}},
    "attn_config.attn_type multiquery_attention": {"attn_config": {"attn_type": "multiquery_attention"}},
    "attn_config.attn_type grouped_query_attention": {
        "attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 2}
    },
    "attn_config.attn_uses_sequence_id True": {"attn_config": {"attn_uses_sequence_id": True}},
    "attn_config.qk_ln True": {"attn_config": {"qk_ln": True}},
    "attn_config.sliding_window_size 8": {"attn_config": {"sliding_window_size": 8}},
}


def model_of(config: ReplitCodeConfig) -> ReplitCodeForCausalLM:
    torch.manual_seed(0)
    model = ReplitCodeForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Norms and biases as if trained: at their first values some settings would change nothing.
            if parameter.ndim == 1:
                parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.3)
    return model


def native_logits(model: ReplitCodeForCausalLM, fields: dict[str, Any], ids: Tensor) -> Tensor | None:
    """What native MPT makes of the weights it knows; None where it refuses them."""
    try:
        native = MptForCausalLM(MptConfig(**fields)).to(model.dtype).eval()
        native.load_state_dict(model.state_dict(), strict=False)
    except Exception:  # another shape, or a value that it does not take; the versions raise different things
        return None
    return native(ids).logits


@pytest.fixture
def long_ids() -> Tensor:
    """Token ids `(1, 256)`."""
    return torch.randint(3, 600, (1, 256), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_native_mpt_computes_the_same(changes: dict[str, Any], long_ids: Tensor) -> None:
    config = ReplitCodeConfig(**{**SHAPE, **changes})
    assert native_obstacle(config) is None
    model = model_of(config)
    logits = native_logits(model, native_config(config, "float32"), long_ids)
    assert logits is not None
    assert (logits - model(long_ids).logits).abs().max() <= 1e-4


@pytest.mark.parametrize("setting", DIFFERENT)
def test_what_native_mpt_would_compute_otherwise_is_named(setting: str, long_ids: Tensor) -> None:
    changes = DIFFERENT[setting]
    config = ReplitCodeConfig(**{**SHAPE, **changes})
    plain = native_config(ReplitCodeConfig(**SHAPE), "float32")
    changed = {**plain, **changes, "attn_config": {**plain["attn_config"], **changes.get("attn_config", {})}}
    model = model_of(config)
    if "legacy" in setting:  # its rounding is the 16-bit type's
        model.to(torch.bfloat16)
    documents = torch.arange(256)[None] // 100 if config.attn_config["attn_uses_sequence_id"] else None
    expected = model(long_ids, sequence_id=documents).logits
    logits = native_logits(model, changed, long_ids)
    assert logits is None or (logits - expected).abs().mean() > 1e-2 * expected.abs().mean()

    obstacle = native_obstacle(config)
    assert obstacle is not None
    assert f"the model has {setting}, which transformers' own MPT ignores" in obstacle
    with pytest.raises(CheckpointError, match="cannot be exported for use without codelm"):
        native_config(config, "float32")


def test_several_obstacles_are_named_together() -> None:
    config = ReplitCodeConfig(**SHAPE, logit_scale=2.0, attn_config={"qk_ln": True})
    obstacle = native_obstacle(config)
    assert obstacle is not None
    assert "logit_scale 2.0 and attn_config.qk_ln True" in obstacle
    assert "computes with None and False" in obstacle


@pytest.mark.parametrize("changes", SAME, ids=str)
def test_the_exported_configuration_comes_back(changes: dict[str, Any]) -> None:
    config = ReplitCodeConfig(**{**SHAPE, **changes})
    back = own_config(native_config(config, "float32"))
    back.architectures = back.dtype = None
    assert back.to_dict() == config.to_dict()


def test_the_kernel_stays_with_the_machine() -> None:
    config = ReplitCodeConfig(**SHAPE, attn_config={"attn_impl": "triton"})
    assert native_config(config, "float32")["attn_config"]["attn_impl"] == "torch"


def test_what_transformers_saves_of_its_own_mpt_is_read() -> None:
    fields = MptConfig(d_model=48, n_heads=4, n_layers=2, vocab_size=600, max_seq_len=256).to_dict()
    config = own_config(fields)
    assert (config.d_model, config.attn_config["alibi"]) == (48, True)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (None, None, None)
