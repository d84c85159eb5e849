"""The `config.json` by which transformers loads our weights as its own MPT, with no code of ours.

Native MPT ignores several settings without an exception; a model that uses one of them cannot leave in this format.
"""

from typing import Any

from codelm.errors import CheckpointError
from codelm.model.configuration import ReplitCodeConfig

OWN_KEY = "replit_code"
"""Holds what native MPT has no place for, and inference no use."""


def native_obstacle(config: ReplitCodeConfig) -> str | None:
    """Why native MPT would compute this model wrongly, as a sentence; None when it would not."""
    fixed = {
        "expansion_ratio": (config.expansion_ratio, 4),
        "attn_config.alibi_bias_max": (config.attn_config["alibi_bias_max"], 8),
    }
    for name, (value, only) in fixed.items():
        if value != only:
            return (
                f"the model has {name} {value}, which transformers' own MPT ignores (it computes with {only}), so it "
                "cannot be exported for use without codelm"
            )
    return None


def native_config(config: ReplitCodeConfig, dtype: str) -> dict[str, Any]:
    """The content of config.json: the published layout, as transformers 4.53 to 5 and llama.cpp read it.

    Raises:
        CheckpointError: native MPT would compute this model wrongly.
    """
    obstacle = native_obstacle(config)
    if obstacle:
        raise CheckpointError(obstacle)
    attention = dict(config.attn_config)
    # transformers 5 takes a whole number here and no other; dropout plays no part in what an export is for.
    attention["attn_pdrop"] = 0
    for name in ("softmax_scale", "clip_qkv"):
        attention[name] = None if attention[name] is None else float(attention[name])
    return {
        "architectures": ["MPTForCausalLM"],
        "model_type": "mpt",
        "d_model": config.d_model,
        "n_heads": config.n_heads,
        "n_layers": config.n_layers,
        "expansion_ratio": config.expansion_ratio,
        "max_seq_len": config.max_seq_len,
        "vocab_size": config.vocab_size,
        "attn_config": attention,
        "init_config": dict(config.init_config),
        "emb_pdrop": config.emb_pdrop,
        "resid_pdrop": config.resid_pdrop,
        "embedding_fraction": config.embedding_fraction,
        "layer_norm_epsilon": config.layer_norm_epsilon,
        "learned_pos_emb": config.learned_pos_emb,
        "logit_scale": config.logit_scale,
        "no_bias": config.no_bias,
        "norm_type": config.norm_type,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "torch_dtype": dtype,
        OWN_KEY: {"attn_pdrop": config.attn_config["attn_pdrop"]},
    }


def own_config(native: dict[str, Any]) -> ReplitCodeConfig:
    """Our configuration of an exported, published or own config.json.

    Raises:
        ConfigError: a setting is not supported.
    """
    fields = dict(native)
    extra = fields.pop(OWN_KEY, None)
    config = ReplitCodeConfig(**fields)
    if extra:
        config.attn_config.update(extra)
    return config
