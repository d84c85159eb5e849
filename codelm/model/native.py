"""The `config.json` by which transformers loads our weights as its own MPT, with no code of ours.

Native MPT ignores many settings without an exception; a model that uses one of them cannot leave in this format.
"""

from typing import Any

from codelm.errors import CheckpointError, ConfigError
from codelm.model.configuration import ReplitCodeConfig
from codelm.model.mpt_fields import OWN_KEY, own_fields

# What native MPT computes whatever the configuration says; the first value is its own, the others come to the same.
_COMPUTED: dict[str, tuple[Any, ...]] = {
    "expansion_ratio": (4,),
    "logit_scale": (None, 1),
    "no_bias": (True,),
    "norm_type": ("low_precision_layernorm", "layernorm"),
    "attn_config.attn_type": ("multihead_attention",),
    "attn_config.attn_uses_sequence_id": (False,),
    "attn_config.alibi": (True,),
    "attn_config.alibi_bias_max": (8,),
    "attn_config.alibi_form": ("relative",),
    "attn_config.qk_ln": (False,),
    "attn_config.sliding_window_size": (-1,),
    "attn_config.prefix_lm": (False,),
}
_ATTENTION_KEYS = ("attn_type", "attn_uses_sequence_id", "alibi", "alibi_bias_max", "prefix_lm", "qk_ln")


def native_obstacle(config: ReplitCodeConfig) -> str | None:
    """Why native MPT would compute this model wrongly, as a sentence; None when it would not."""
    found = {name: _lookup(config, name, same[0]) for name, same in _COMPUTED.items()}
    wrong = {name: value for name, value in found.items() if value not in _COMPUTED[name]}
    if not wrong:
        return None
    settings = " and ".join(f"{name} {value}" for name, value in wrong.items())
    instead = " and ".join(str(_COMPUTED[name][0]) for name in wrong)
    return (
        f"the model has {settings}, which transformers' own MPT ignores (it computes with {instead}), so it cannot be "
        "exported for use without codelm"
    )


def native_config(config: ReplitCodeConfig, dtype: str) -> dict[str, Any]:
    """The content of config.json: the published layout, as transformers 4.53 to 5 and llama.cpp read it.

    Raises:
        CheckpointError: native MPT would compute this model wrongly.
    """
    obstacle = native_obstacle(config)
    if obstacle:
        raise CheckpointError(obstacle)
    attention = {name: config.attn_config[name] for name in _ATTENTION_KEYS}
    # Which kernel computes attention is the machine's business, not the checkpoint's.
    attention["attn_impl"] = "torch"
    # transformers 5 takes a whole number here and no other; dropout plays no part in what an export is for.
    attention["attn_pdrop"] = 0
    for name in ("softmax_scale", "clip_qkv"):
        value = config.attn_config[name]
        attention[name] = None if value is None else float(value)
    return {
        "architectures": ["MPTForCausalLM"],
        "model_type": "mpt",
        "d_model": config.d_model,
        "n_heads": config.n_heads,
        "n_layers": config.n_layers,
        "expansion_ratio": config.expansion_ratio,
        "max_seq_len": config.max_seq_len,
        "vocab_size": config.vocab_size,
        "attn_config": dict(sorted(attention.items())),
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


def own_config(fields: dict[str, Any]) -> ReplitCodeConfig:
    """Our configuration of an exported, published or own config.json.

    Raises:
        ConfigError: a setting is not supported.
    """
    try:
        return ReplitCodeConfig(**own_fields(fields))
    except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError) as error:
        raise ConfigError(f"not the configuration of a model of this architecture ({error})") from error


def _lookup(config: ReplitCodeConfig, dotted: str, default: Any) -> Any:
    section, _, key = dotted.rpartition(".")
    return getattr(config, section).get(key, default) if section else getattr(config, key)
