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
        ({"logit_scale": "sqrt"}, "`logit_scale` to 'sqrt'; it must be null, above 0 or 'inv_sqrt_d_model'"),
        ({"logit_scale": 0}, "`logit_scale` to 0"),
        ({"no_bias": "yes"}, "`no_bias` to 'yes'; it must be true or false"),
        ({"norm_type": "rms_norm"}, "`norm_type` to 'rms_norm'; did you mean `rmsnorm`?"),
        ({"norm_type": "triton_rmsnorm"}, "supported: low_precision_layernorm, layernorm"),
        ({"embedding_fraction": 0}, "above 0 and at most 1"),
        ({"tie_word_embeddings": False}, "shares the embedding's weights"),
        ({"learned_pos_emb": False, "attn_config": {"alibi": False}}, "the model would not know positions"),
        ({"attn_config": {"prefix_lm": True}}, "`attn_config.prefix_lm`"),
        ({"attn_config": {"attn_type": "multi_query"}}, "supported: multihead_attention, multiquery_attention"),
        ({"attn_config": {"attn_type": "grouped_query_attention"}}, "`attn_config.kv_n_heads` is None"),
        ({"attn_config": {"attn_type": "grouped_query_attention", "kv_n_heads": 5}}, "is 5: it must divide n_heads 32"),
        ({"attn_config": {"kv_n_heads": 4}}, "set it to grouped_query_attention"),
        ({"attn_config": {"sliding_window_size": 0}}, "above 0, or -1 for none"),
        ({"attn_config": {"attn_impl": "flashy"}}, "'flashy'; did you mean `flash`?; supported: torch, triton, flash"),
        ({"attn_config": {"attn_impl": "triton", "attn_pdrop": 0.1}}, "not supported with attn_impl: triton"),
        ({"attn_config": {"attn_impl": "triton", "alibi_form": "legacy"}}, "alibi_form` is legacy"),
        ({"attn_config": {"alibi_form": "rows"}}, "supported: relative, legacy"),
        ({"attn_config": {"rope": True}}, "`attn_config.rope` to True, which is not supported: use False"),
        ({"ffn_config": {"ffn_type": "mptglu"}}, "`ffn_config.ffn_type` to 'mptglu', which is not supported"),
        ({"final_logit_softcapping": 30.0}, "`final_logit_softcapping` to 30.0"),
        ({"head_dim": 64}, "`head_dim` to 64, which is not supported: use 80"),
        ({"attention_bias": True}, "`attention_bias` to True"),
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
    config.attn_config["attn_impl"] = "tritton"
    with pytest.raises(ConfigError, match="did you mean `triton`"):
        ReplitCodeForCausalLM(config)


def test_the_sizes_are_known_by_name() -> None:
    counts = {}
    for size in ("125m", "350m", "1b", "3b"):
        with torch.device("meta"):
            model = ReplitCodeForCausalLM(ReplitCodeConfig.from_size(size))
        counts[size] = sum(parameter.numel() for parameter in model.parameters())
    assert counts == {"125m": 110_119_680, "350m": 335_594_496, "1b": 1_275_168_768, "3b": 2_600_634_880}
    published = ReplitCodeConfig(**copy.deepcopy(PUBLISHED)).to_dict()
    named = ReplitCodeConfig.from_size("3b").to_dict()
    ours = {"architectures", "dtype", "torch_dtype", "init_device", "tokenizer_name", "transformers_version", "verbose"}
    assert {key for key in {*named, *published} if named.get(key) != published.get(key)} <= ours
    assert ReplitCodeConfig.from_size("125m", n_layers=3, max_seq_len=64).n_layers == 3
    with pytest.raises(ConfigError, match=r"no model size '3B'; did you mean `3b`\?; the sizes are 125m, 350m, 1b, 3b"):
        ReplitCodeConfig.from_size("3B")


def test_a_config_of_a_later_mpt_is_taken_where_it_asks_for_nothing_new() -> None:
    attention = {"rope": False, "rope_theta": 10000, "fused_qkv": True, "qk_gn": False, "nope": False}
    attention["attn_temperature_tuning"] = {"floor_scale": 8192, "attn_scale": 0.0}
    config = ReplitCodeConfig(
        **{
            **copy.deepcopy(PUBLISHED),
            "attn_config": {**PUBLISHED["attn_config"], **attention},
            "expansion_ratio": 4.0,
        },
        norm_eps=1e-6,
        head_dim=None,
        attention_bias=False,
        ffn_config={"ffn_type": "mptmlp", "fc_type": {"name": "torch"}},
        fc_type={"name": "torch"},
        use_pad_tok_in_ffn=True,
    )
    assert config.layer_norm_epsilon == 1e-6
    assert (config.expansion_ratio, type(config.expansion_ratio)) == (4, int)
    assert "rope" not in config.attn_config


def test_heads_of_keys_go_by_every_name() -> None:
    grouped = ReplitCodeConfig(attn_config={"attn_type": "grouped_query_attention", "n_kv_heads": 8})
    assert (grouped.kv_n_heads, grouped.num_key_value_heads, grouped.attn_config["kv_n_heads"]) == (8, 8, 8)
    assert ReplitCodeConfig(attn_config={"attn_type": "multiquery_attention"}).num_key_value_heads == 1
    assert ReplitCodeConfig().num_key_value_heads == 32
