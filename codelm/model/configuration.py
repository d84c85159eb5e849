"""The configuration of replit-code-v1-3b's architecture, with MPT's key names.

`ReplitCodeConfig(**original_config_json)` takes the published file as it is. A setting that this implementation does
not compute is refused with a sentence; none is silently ignored.
"""

import copy
import difflib
from typing import Any

from transformers import GenerationConfig, PretrainedConfig

from codelm.config.sizes import SIZES
from codelm.errors import ConfigError
from codelm.model.mpt_fields import OWN_KEY, own_fields, with_own_keys

ATTN_IMPLS = ("torch", "triton", "flash")
ATTN_TYPES = ("multihead_attention", "multiquery_attention", "grouped_query_attention")
ALIBI_FORMS = ("relative", "legacy")
NORM_TYPES = ("low_precision_layernorm", "layernorm", "low_precision_rmsnorm", "rmsnorm")

_ATTN_DEFAULTS: dict[str, Any] = {
    "attn_type": "multihead_attention",
    "attn_impl": "torch",
    "attn_pdrop": 0.0,
    "attn_uses_sequence_id": False,
    "alibi": True,
    "alibi_bias_max": 8,
    "alibi_form": "relative",
    "clip_qkv": None,
    "kv_n_heads": None,
    "prefix_lm": False,
    "qk_ln": False,
    "sliding_window_size": -1,
    "softmax_scale": None,
}
_INIT_DEFAULTS: dict[str, Any] = {
    "name": "kaiming_normal_",
    "fan_mode": "fan_in",
    "init_nonlinearity": "relu",
    "init_div_is_residual": True,
    "emb_init_std": None,
    "emb_init_uniform_lim": None,
    "init_gain": 0,
    "init_std": 0.02,
    "verbose": 0,
}
# The only value computed; why, as the end of a sentence.
_ONLY: dict[str, tuple[Any, str]] = {
    "tie_word_embeddings": (True, "the output layer shares the embedding's weights"),
    "attn_config.prefix_lm": (False, "prefix attention is not supported"),
    "init_config.name": ("kaiming_normal_", "other initialisations are not supported"),
    "init_config.fan_mode": ("fan_in", "other initialisations are not supported"),
    "init_config.init_nonlinearity": ("relu", "other initialisations are not supported"),
    "init_config.init_div_is_residual": (True, "residual projections are divided by √(2·n_layers)"),
    "init_config.emb_init_std": (None, "the embedding is initialised like the linear layers"),
    "init_config.emb_init_uniform_lim": (None, "the embedding is initialised like the linear layers"),
}
_SWITCHES = (
    "no_bias",
    "learned_pos_emb",
    "attn_config.alibi",
    "attn_config.qk_ln",
    "attn_config.attn_uses_sequence_id",
)
_ONE_OF: dict[str, tuple[str, ...]] = {
    "norm_type": NORM_TYPES,
    "attn_config.attn_type": ATTN_TYPES,
    "attn_config.attn_impl": ATTN_IMPLS,
    "attn_config.alibi_form": ALIBI_FORMS,
}
# Settings of later MPT versions, at the value that leaves them out; any other value is refused.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "block_overrides": (None,),
    "final_logit_softcapping": (None,),
    "use_pad_tok_in_ffn": (True,),
    "attn_config.attn_logit_softcapping": (None,),
    "attn_config.attn_temperature_tuning": (None,),
    "attn_config.fused_qkv": (True,),
    "attn_config.kv_dim": (None,),
    "attn_config.nope": (False,),
    "attn_config.qk_gn": (False,),
    "attn_config.rope": (False,),
}
_WITHOUT_EFFECT = {"rope_theta", "rope_impl", "rope_dail_config", "rope_hf_config"}
"""Keys of attn_config that mean nothing as long as `rope` is false."""
_OTHER_NAMES = {"n_kv_heads": "kv_n_heads"}
_HARMLESS = {"init_device", "verbose", "tokenizer_name", "dtype", "torch_dtype", "quantization_config"}
_HARMLESS |= {"attn_implementation", "experts_implementation", "name_or_path"}


class ReplitCodeConfig(PretrainedConfig):
    """What a model of the replit-code-v1-3b architecture is made of; the defaults are replit-code-v1-3b itself.

    Args:
        d_model: width of the residual stream; n_heads divides it.
        expansion_ratio: width of the feed-forward layer over d_model.
        max_seq_len: length trained on; ALiBi carries the model past it, so no length is refused.
        vocab_size: rows of the (tied) embedding.
        attn_config: a plain dict with MPT's keys, and two of ours; `config.attn_config["attn_impl"] = "triton"` works.
            `attn_impl`: `torch` (SDPA), `triton` (compiled FlexAttention) or `flash` (flash-attn), see
            `codelm.model.attention`. `alibi_form`: `relative`, or `legacy` for Replit's own arithmetic.
            `kv_n_heads`: heads of keys and values, for `grouped_query_attention`. `sliding_window_size`: a query sees
            so many keys before its own; -1 for all.
        init_config: a plain dict; the published initialisation is the only one.
        emb_pdrop, resid_pdrop: dropout on the embedding and on each block's two outputs, in training.
        embedding_fraction: scales the gradient of the embedding, as in MPT.
        learned_pos_emb: a table of positions, where `attn_config.alibi` is false; as in the published model it is
            without effect under ALiBi. Positions count over a row, also where documents are packed into it.
        logit_scale: multiplies the logits; a number or `inv_sqrt_d_model`.
        no_bias: false gives every linear layer and layer norm a bias.
        norm_type: one of `NORM_TYPES`; the low-precision ones compute in the autocast type.
        init_device, verbose, init_config.init_gain, init_config.init_std: without effect, as in the published model.

    Raises:
        ConfigError: a key is unknown, or a value is not supported.
    """

    model_type = "replit_code"
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
        "max_position_embeddings": "max_seq_len",
        "num_key_value_heads": "kv_n_heads",
    }
    keys_to_ignore_at_inference = ["past_key_values"]  # noqa: RUF012

    def __init__(
        self,
        d_model: int = 2560,
        n_heads: int = 32,
        n_layers: int = 32,
        expansion_ratio: int = 4,
        max_seq_len: int = 2048,
        vocab_size: int = 32768,
        attn_config: dict[str, Any] | None = None,
        init_config: dict[str, Any] | None = None,
        emb_pdrop: float = 0.0,
        resid_pdrop: float = 0.0,
        layer_norm_epsilon: float = 1e-5,
        embedding_fraction: float = 1.0,
        learned_pos_emb: bool = True,
        logit_scale: float | str | None = None,
        no_bias: bool = True,
        norm_type: str = "low_precision_layernorm",
        use_cache: bool = True,
        tie_word_embeddings: bool = True,
        bos_token_id: int | None = None,
        eos_token_id: int | None = 1,
        pad_token_id: int | None = 2,
        **kwargs: Any,
    ) -> None:
        # Names of later MPT versions.
        layer_norm_epsilon = kwargs.pop("norm_eps", layer_norm_epsilon)
        _check_later_options(kwargs, no_bias, d_model // n_heads)
        attention = with_own_keys(attn_config, kwargs.pop(OWN_KEY, None))
        kwargs = _known_kwargs(kwargs)
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_layers = n_layers
        # Later MPT versions write a float.
        self.expansion_ratio = int(expansion_ratio) if expansion_ratio == int(expansion_ratio) else expansion_ratio
        self.max_seq_len = max_seq_len
        self.vocab_size = vocab_size
        self.attn_config = {**_ATTN_DEFAULTS, **_known_attn_config(attention)}
        self.init_config = {**_INIT_DEFAULTS, **copy.deepcopy(dict(init_config or {}))}
        self.emb_pdrop = emb_pdrop
        self.resid_pdrop = resid_pdrop
        self.layer_norm_epsilon = layer_norm_epsilon
        self.embedding_fraction = embedding_fraction
        self.learned_pos_emb = learned_pos_emb
        self.logit_scale = logit_scale
        self.no_bias = no_bias
        self.norm_type = norm_type
        self.use_cache = use_cache
        tokens = {"bos_token_id": bos_token_id, "eos_token_id": eos_token_id, "pad_token_id": pad_token_id}
        super().__init__(**{**kwargs, **tokens, "tie_word_embeddings": tie_word_embeddings})
        check_config(self)

    @classmethod
    def get_config_dict(cls, *args: Any, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The fields of a folder's config.json, MPT's brought to ours, and the arguments that are left."""
        fields, rest = super().get_config_dict(*args, **kwargs)
        if fields.get("model_type") == "mpt":
            fields = {**own_fields(fields), "model_type": cls.model_type}
        return fields, rest

    @property
    def head_dim(self) -> int:
        """Width of one attention head; 80 for replit-code-v1-3b."""
        return self.d_model // self.n_heads

    @property
    def kv_n_heads(self) -> int:
        """Heads of keys and values: one for multi-query attention, n_heads for the usual one."""
        if self.attn_config["attn_type"] == "grouped_query_attention":
            return self.attn_config["kv_n_heads"]
        return 1 if self.attn_config["attn_type"] == "multiquery_attention" else self.n_heads

    @property
    def window(self) -> int | None:
        """How many keys before its own a query sees; None for all."""
        size = self.attn_config["sliding_window_size"]
        return None if size == -1 else size

    @property
    def has_positions(self) -> bool:
        """Whether positions come from a learned table, which ends at max_seq_len, instead of ALiBi."""
        return self.learned_pos_emb and not self.attn_config["alibi"]

    @classmethod
    def from_size(cls, size: str, **fields: Any) -> "ReplitCodeConfig":
        """The architecture of a named size (`125m`, `350m`, `1b`, `3b`); `3b` is replit-code-v1-3b.

        Args:
            fields: what differs from it.

        Raises:
            ConfigError: there is no such size, or a field is not supported.
        """
        if size not in SIZES:
            raise ConfigError(
                f"there is no model size {size!r}{_hint(size.lower(), SIZES)}; the sizes are {', '.join(SIZES)}"
            )
        return cls(**{**SIZES[size], **fields})


def check_config(config: ReplitCodeConfig) -> None:
    """Refuse what the model does not compute; also called when a model is built, since a config can be edited.

    Raises:
        ConfigError: naming the setting, its value and what is supported.
    """
    for section, defaults in (("attn_config", _ATTN_DEFAULTS), ("init_config", _INIT_DEFAULTS)):
        for key in getattr(config, section):
            if key not in defaults:
                raise ConfigError(f"the model configuration has an unknown key `{section}.{key}`{_hint(key, defaults)}")
    for name, (only, reason) in _ONLY.items():
        value = _lookup(config, name)
        if value != only:
            raise ConfigError(f"the model configuration sets `{name}` to {value!r}, but {reason}: use {only!r}")
    for name, allowed in _ONE_OF.items():
        value = _lookup(config, name)
        if value not in allowed:
            raise ConfigError(
                f"the model configuration sets `{name}` to {value!r}{_hint(str(value), allowed)}; "
                f"supported: {', '.join(allowed)}"
            )
    for name in _SWITCHES:
        value = _lookup(config, name)
        if not isinstance(value, bool):
            raise ConfigError(f"the model configuration sets `{name}` to {value!r}; it must be true or false")
    for name in ("d_model", "n_heads", "n_layers", "expansion_ratio", "max_seq_len", "vocab_size"):
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"the model configuration sets `{name}` to {value!r}; it must be a whole number above 0")
    for name in ("emb_pdrop", "resid_pdrop", "attn_config.attn_pdrop"):
        value = _lookup(config, name)
        if not isinstance(value, int | float) or not 0 <= value < 1:
            raise ConfigError(f"the model configuration sets `{name}` to {value!r}; it must be at least 0 and below 1")
    for name in ("layer_norm_epsilon", "attn_config.alibi_bias_max"):
        value = _lookup(config, name)
        if not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"the model configuration sets `{name}` to {value!r}; it must be above 0")
    for name in ("attn_config.softmax_scale", "attn_config.clip_qkv"):
        value = _lookup(config, name)
        if value is not None and (not isinstance(value, int | float) or not value > 0):
            raise ConfigError(f"the model configuration sets `{name}` to {value!r}; it must be null or above 0")
    scale = config.logit_scale
    if scale not in (None, "inv_sqrt_d_model") and (not isinstance(scale, int | float) or not scale > 0):
        raise ConfigError(
            f"the model configuration sets `logit_scale` to {scale!r}; it must be null, above 0 or 'inv_sqrt_d_model'"
        )
    if not isinstance(config.embedding_fraction, int | float) or not 0 < config.embedding_fraction <= 1:
        raise ConfigError(
            f"the model configuration sets `embedding_fraction` to {config.embedding_fraction!r}; "
            "it must be above 0 and at most 1"
        )
    if config.d_model % config.n_heads:
        raise ConfigError(f"d_model {config.d_model} is not divisible by n_heads {config.n_heads}")
    _check_attention(config)


def _check_attention(config: ReplitCodeConfig) -> None:
    attention = config.attn_config
    heads, grouped = attention["kv_n_heads"], attention["attn_type"] == "grouped_query_attention"
    if grouped and (not isinstance(heads, int) or isinstance(heads, bool) or heads < 1 or config.n_heads % heads):
        raise ConfigError(
            f"attn_config.attn_type is grouped_query_attention, and `attn_config.kv_n_heads` is {heads!r}: "
            f"it must divide n_heads {config.n_heads}"
        )
    if not grouped and heads not in (None, config.kv_n_heads):
        raise ConfigError(
            f"`attn_config.kv_n_heads` is {heads!r}, but attn_config.attn_type is {attention['attn_type']}: "
            "set it to grouped_query_attention"
        )
    window = attention["sliding_window_size"]
    if not isinstance(window, int) or isinstance(window, bool) or (window != -1 and window < 1):
        raise ConfigError(f"`attn_config.sliding_window_size` is {window!r}; it must be above 0, or -1 for none")
    if not attention["alibi"] and not config.learned_pos_emb:
        raise ConfigError(
            "the model configuration has neither `attn_config.alibi` nor `learned_pos_emb`: the model would not know "
            "positions; set one of them to true"
        )
    if attention["alibi_form"] == "legacy" and (not attention["alibi"] or attention["attn_impl"] != "torch"):
        raise ConfigError(
            "`attn_config.alibi_form` is legacy, which is computed with alibi: true and attn_impl: torch only; "
            "use alibi_form: relative, or these"
        )
    if attention["attn_impl"] == "triton" and attention["attn_pdrop"]:
        raise ConfigError(
            "`attn_config.attn_pdrop` is not supported with attn_impl: triton; set it to 0, or use attn_impl: torch"
        )


def _lookup(config: ReplitCodeConfig, dotted: str) -> Any:
    section, _, key = dotted.rpartition(".")
    return getattr(config, section)[key] if section else getattr(config, key)


def _known_kwargs(kwargs: dict[str, Any]) -> dict[str, Any]:
    """The remaining keyword arguments if transformers knows them; `auto_map` would point at remote code and goes."""
    known, base, generation = {}, PretrainedConfig(), GenerationConfig()
    for key, value in kwargs.items():
        if key == "model_type":
            if value not in ("mpt", "replit_code"):
                raise ConfigError(f"a model configuration of type `{value}` is not of the replit-code architecture")
        elif key == "auto_map":
            continue
        elif key in _NEUTRAL:
            _check_neutral(key, value)
        elif key in _HARMLESS or key.startswith("_") or hasattr(base, key) or hasattr(generation, key):
            known[key] = value
        else:
            raise ConfigError(f"the model configuration has an unknown key `{key}`{_hint(key, _OWN_KEYS)}")
    return known


def _known_attn_config(given: dict[str, Any]) -> dict[str, Any]:
    """A copy with our names; what later MPT versions add goes when it is switched off, and is refused when not."""
    known = {}
    for key, value in copy.deepcopy(dict(given)).items():
        if key == "attn_temperature_tuning" and value and not value.get("attn_scale"):
            continue
        if f"attn_config.{key}" in _NEUTRAL:
            _check_neutral(f"attn_config.{key}", value)
        elif key not in _WITHOUT_EFFECT:
            known[_OTHER_NAMES.get(key, key)] = value
    return known


def _check_neutral(name: str, value: Any) -> None:
    if value not in _NEUTRAL[name]:
        raise ConfigError(
            f"the model configuration sets `{name}` to {value!r}, which is not supported: use {_NEUTRAL[name][0]!r}"
        )


def _check_later_options(kwargs: dict[str, Any], no_bias: bool, head_dim: int) -> None:
    """Take out what later MPT versions write beside the old names, and refuse it where it asks for something new."""
    feed_forward, linear = kwargs.pop("ffn_config", None) or {}, kwargs.pop("fc_type", "torch")
    linear = linear.get("name") if isinstance(linear, dict) else linear
    asked = {
        "ffn_config.ffn_type": (feed_forward.get("ffn_type", "mptmlp"), "mptmlp"),
        "fc_type": (linear, "torch"),
        "attention_bias": (kwargs.pop("attention_bias", None), not no_bias),
        "head_dim": (kwargs.pop("head_dim", None), head_dim),
    }
    for name, (value, only) in asked.items():
        if value not in (None, only):
            raise ConfigError(
                f"the model configuration sets `{name}` to {value!r}, which is not supported: use {only!r}"
            )


_OWN_KEYS = [
    name
    for name in ReplitCodeConfig.__init__.__code__.co_varnames[: ReplitCodeConfig.__init__.__code__.co_argcount]
    if name != "self"
]


def _hint(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
