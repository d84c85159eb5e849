"""The configuration of replit-code-v1-3b's architecture, with MPT's key names.

`ReplitCodeConfig(**original_config_json)` takes the published file as it is. A setting that this implementation does
not compute is refused with a sentence; none is silently ignored.
"""

import copy
import difflib
from typing import Any

from transformers import GenerationConfig, PretrainedConfig

from codelm.errors import ConfigError

ATTN_IMPLS = ("torch",)

_ATTN_DEFAULTS: dict[str, Any] = {
    "attn_type": "multihead_attention",
    "attn_impl": "torch",
    "attn_pdrop": 0.0,
    "attn_uses_sequence_id": False,
    "alibi": True,
    "alibi_bias_max": 8,
    "clip_qkv": None,
    "prefix_lm": False,
    "qk_ln": False,
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
# The published value is the only one computed; why, as the end of a sentence.
_ONLY: dict[str, tuple[Any, str]] = {
    "logit_scale": (None, "scaled logits are not supported"),
    "no_bias": (True, "linear layers and norms with biases are not supported"),
    "norm_type": ("low_precision_layernorm", "other norms are not supported"),
    "embedding_fraction": (1.0, "scaling the embedding's gradient is not supported"),
    "tie_word_embeddings": (True, "the output layer shares the embedding's weights"),
    "attn_config.attn_type": ("multihead_attention", "keys and values shared between heads are not supported"),
    "attn_config.attn_uses_sequence_id": (False, "documents are masked from each other whenever sequence_id is passed"),
    "attn_config.alibi": (True, "learned positions are not supported"),
    "attn_config.prefix_lm": (False, "prefix attention is not supported"),
    "attn_config.qk_ln": (False, "norms on queries and keys are not supported"),
    "init_config.name": ("kaiming_normal_", "other initialisations are not supported"),
    "init_config.fan_mode": ("fan_in", "other initialisations are not supported"),
    "init_config.init_nonlinearity": ("relu", "other initialisations are not supported"),
    "init_config.init_div_is_residual": (True, "residual projections are divided by √(2·n_layers)"),
    "init_config.emb_init_std": (None, "the embedding is initialised like the linear layers"),
    "init_config.emb_init_uniform_lim": (None, "the embedding is initialised like the linear layers"),
}
_HARMLESS = {"init_device", "verbose", "tokenizer_name", "dtype", "torch_dtype", "quantization_config"}
_HARMLESS |= {"attn_implementation", "experts_implementation", "name_or_path"}


class ReplitCodeConfig(PretrainedConfig):
    """What a model of the replit-code-v1-3b architecture is made of; the defaults are replit-code-v1-3b itself.

    Args:
        d_model: width of the residual stream; n_heads divides it.
        expansion_ratio: width of the feed-forward layer over d_model.
        max_seq_len: length trained on; ALiBi carries the model past it, so no length is refused.
        vocab_size: rows of the (tied) embedding.
        attn_config: a plain dict, see `_ATTN_DEFAULTS`; `config.attn_config["attn_impl"] = "torch"` works.
        init_config: a plain dict; the published initialisation is the only one.
        emb_pdrop, resid_pdrop: dropout on the embedding and on each block's two outputs, in training.
        learned_pos_emb, init_device, verbose, init_config.init_gain, init_config.init_std: without effect, as in the
            published model (ALiBi replaces the first, kaiming initialisation the last two).

    Raises:
        ConfigError: a key is unknown, or a value is not supported.
    """

    model_type = "replit_code"
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "num_attention_heads": "n_heads",
        "num_hidden_layers": "n_layers",
        "max_position_embeddings": "max_seq_len",
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
        kwargs = _known_kwargs(kwargs)
        self.d_model = d_model
        self.n_heads = n_heads
        self.n_layers = n_layers
        self.expansion_ratio = expansion_ratio
        self.max_seq_len = max_seq_len
        self.vocab_size = vocab_size
        self.attn_config = {**_ATTN_DEFAULTS, **copy.deepcopy(dict(attn_config or {}))}
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

    @property
    def head_dim(self) -> int:
        """Width of one attention head; 80 for replit-code-v1-3b."""
        return self.d_model // self.n_heads


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
    if config.d_model % config.n_heads:
        raise ConfigError(f"d_model {config.d_model} is not divisible by n_heads {config.n_heads}")
    if config.attn_config["attn_impl"] not in ATTN_IMPLS:
        raise ConfigError(
            f"the model configuration sets `attn_config.attn_impl` to {config.attn_config['attn_impl']!r}; "
            f"supported: {', '.join(ATTN_IMPLS)}"
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
        elif key in _HARMLESS or key.startswith("_") or hasattr(base, key) or hasattr(generation, key):
            known[key] = value
        else:
            raise ConfigError(f"the model configuration has an unknown key `{key}`{_hint(key, _OWN_KEYS)}")
    return known


_OWN_KEYS = [
    name
    for name in ReplitCodeConfig.__init__.__code__.co_varnames[: ReplitCodeConfig.__init__.__code__.co_argcount]
    if name != "self"
]


def _hint(key: str, known: Any) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f"; did you mean `{close[0]}`?" if close else ""
