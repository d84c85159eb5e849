"""The configuration: the published file as it is, and a sentence for whatever is not supported."""

import copy
import json
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from codelm.errors import ConfigError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM

PUBLISHED: dict[str, Any] = {
    "architectures": ["MPTForCausalLM"],
    "attn_config": {
        "alibi": True,
        "alibi_bias_max": 8,
        "attn_impl": "torch",
        "attn_pdrop": 0,
        "attn_type": "multihead_attention",
        "attn_uses_sequence_id": False,
        "clip_qkv": None,
        "prefix_lm": False,
        "qk_ln": False,
        "softmax_scale": None,
    },
    "auto_map": {"AutoConfig": "configuration_mpt.MPTConfig", "AutoModelForCausalLM": "modeling_mpt.MPTForCausalLM"},
    "d_model": 2560,
    "emb_pdrop": 0,
    "embedding_fraction": 1.0,
    "expansion_ratio": 4,
    "init_config": {
        "emb_init_std": None,
        "emb_init_uniform_lim": None,
        "fan_mode": "fan_in",
        "init_div_is_residual": True,
        "init_gain": 0,
        "init_nonlinearity": "relu",
        "init_std": 0.02,
        "name": "kaiming_normal_",
        "verbose": 0,
    },
    "init_device": "cpu",
    "learned_pos_emb": True,
    "logit_scale": None,
    "max_seq_len": 2048,
    "model_type": "mpt",
    "n_heads": 32,
    "n_layers": 32,
    "no_bias": True,
    "norm_type": "low_precision_layernorm",
    "resid_pdrop": 0,
    "tokenizer_name": "replit/replit-code-v1-3b",
    "torch_dtype": "float32",
    "transformers_version": "4.28.1",
    "use_cache": True,
    "verbose": 0,
    "vocab_size": 32768,
    "eos_token_id": 1,
}


def test_the_published_config_is_taken_as_it_is() -> None:
    config = ReplitCodeConfig(**copy.deepcopy(PUBLISHED))
    assert config.head_dim == 80
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (2560, 32, 32)
    assert config.eos_token_id == 1
    assert config.tie_word_embeddings is True


def test_it_has_the_parameters_of_replit_code_v1_3b() -> None:
    with torch.device("meta"):
        model = ReplitCodeForCausalLM(ReplitCodeConfig(**copy.deepcopy(PUBLISHED)))
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert sum(parameter.numel() for parameter in model.parameters()) == 2_600_634_880
    assert len(shapes) == 194
    block = {
        "norm_1.weight": (2560,),
        "attn.Wqkv.weight": (7680, 2560),
        "attn.out_proj.weight": (2560, 2560),
        "norm_2.weight": (2560,),
        "ffn.up_proj.weight": (10240, 2560),
        "ffn.down_proj.weight": (2560, 10240),
    }
    expected = {"transformer.wte.weight": (32768, 2560), "transformer.norm_f.weight": (2560,)}
    for layer in range(32):
        expected |= {f"transformer.blocks.{layer}.{name}": shape for name, shape in block.items()}
    assert shapes == expected


def test_attn_config_is_a_plain_dict() -> None:
    config = ReplitCodeConfig()
    config.attn_config["attn_impl"] = "torch"
    assert type(config.attn_config) is dict
    other = ReplitCodeConfig(attn_config={"clip_qkv": 6.0})
    assert other.attn_config["clip_qkv"] == 6.0
    assert config.attn_config["clip_qkv"] is None


def test_a_config_survives_saving(tmp_path) -> None:
    config = ReplitCodeConfig(d_model=64, n_heads=4, attn_config={"softmax_scale": 0.1}, resid_pdrop=0.25)
    config.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, ReplitCodeConfig)
    changed = {"_name_or_path": str(tmp_path), "transformers_version": loaded.transformers_version}
    assert loaded.to_dict() == {**config.to_dict(), **changed}
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "replit_code"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"logit_scale": 0.5}, "`logit_scale` to 0.5, but scaled logits are not supported"),
        ({"no_bias": False}, "biases are not supported"),
        ({"norm_type": "rmsnorm"}, "`norm_type` to 'rmsnorm'"),
        ({"embedding_fraction": 0.5}, "embedding's gradient"),
        ({"tie_word_embeddings": False}, "shares the embedding's weights"),
        ({"attn_config": {"alibi": False}}, "learned positions are not supported"),
        ({"attn_config": {"qk_ln": True}}, "`attn_config.qk_ln`"),
        ({"attn_config": {"prefix_lm": True}}, "`attn_config.prefix_lm`"),
        ({"attn_config": {"attn_type": "multiquery_attention"}}, "shared between heads"),
        ({"attn_config": {"attn_uses_sequence_id": True}}, "whenever sequence_id is passed"),
        ({"attn_config": {"attn_impl": "flashy"}}, "'flashy'; supported: torch"),
        ({"attn_config": {"attn_imp": "torch"}}, "`attn_config.attn_imp`; did you mean `attn_impl`?"),
        ({"attn_config": {"attn_pdrop": 1.5}}, "at least 0 and below 1"),
        ({"attn_config": {"softmax_scale": -1.0}}, "null or above 0"),
        ({"init_config": {"name": "baseline_"}}, "other initialisations"),
        ({"n_layer": 4}, "unknown key `n_layer`; did you mean `n_layers`?"),
        ({"n_heads": 7}, "2560 is not divisible by n_heads 7"),
        ({"d_model": 64.0}, "whole number above 0"),
        ({"vocab_size": 0}, "whole number above 0"),
        ({"model_type": "llama"}, "of type `llama` is not of the replit-code architecture"),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        ReplitCodeConfig(**changes)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_config_edited_afterwards_is_checked_when_the_model_is_built() -> None:
    config = ReplitCodeConfig(d_model=32, n_heads=4, n_layers=1, vocab_size=50)
    config.attn_config["attn_impl"] = "triton"
    with pytest.raises(ConfigError, match="triton"):
        ReplitCodeForCausalLM(config)
