"""The keys of a config.json of MPT, whoever wrote it, as `ReplitCodeConfig` takes them."""

from typing import Any

from transformers import PretrainedConfig

from codelm.errors import ConfigError

OWN_KEY = "replit_code"
"""Holds those keys of attn_config that native MPT has no place for, and inference no use."""

_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def own_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """What `ReplitCodeConfig` takes of a config.json of MPT: exported by us, published, or saved by transformers.

    Raises:
        ConfigError: it is no model's configuration.
    """
    own = dict(fields)
    if own.get("model_type") != "mpt":
        return own
    own["attn_config"] = with_own_keys(own.get("attn_config"), own.pop(OWN_KEY, None))
    # transformers adds these when it saves its own MPT, whose attn_config is a configuration of its own.
    own.pop("initializer_range", None)
    base = PretrainedConfig().to_dict().keys() | {"model_type"}
    own["attn_config"] = {name: value for name, value in own["attn_config"].items() if name not in base}
    if "eos_token_id" not in own:
        # Our defaults are those of replit's vocabulary; a model that names no tokens may have any.
        own.update({name: own.get(name) for name in _TOKENS})
    return own


def with_own_keys(attention: Any, extra: Any) -> dict[str, Any]:
    """An attn_config with what an export put under `OWN_KEY`; either may be None.

    Raises:
        ConfigError: one of them is no mapping.
    """
    for name, given in (("attn_config", attention), (OWN_KEY, extra)):
        if given is not None and not isinstance(given, dict):
            raise ConfigError(f"the model configuration's `{name}` is not a mapping")
    return {**(attention or {}), **(extra or {})}
