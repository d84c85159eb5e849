"""How transformers' Auto classes find ours: for `model_type: replit_code`, and for MPT folders of replit's or our own.

The published model's config.json says `mpt`, as our exports do, so that they load without codelm. With codelm they
become a `ReplitCodeForCausalLM`, and the Python files that the published folder names in `auto_map` are never run.
Other MPT models remain transformers' own. `MptForCausalLM`, named directly, is native MPT in any case.
"""

from pathlib import Path
from typing import Any

import transformers
from packaging import version
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, MptConfig, PretrainedConfig
from transformers.models.auto import configuration_auto

from codelm.model.configuration import ReplitCodeConfig
from codelm.model.modeling import ReplitCodeForCausalLM, ReplitCodeModel
from codelm.model.mpt_fields import OWN_KEY, own_fields
from codelm.tokenizer import MODEL_FILE

_PUBLISHED_CLASS = "configuration_mpt.MPTConfig"


class MptFolderConfig(PretrainedConfig):
    """What AutoConfig makes of `model_type: mpt`: a `ReplitCodeConfig` or a native `MptConfig`, never one of these.

    Raises:
        ConfigError: the folder is replit's or ours, but one of its settings is not supported.
    """

    model_type = "mpt"

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return MptConfig(*args, **kwargs)

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The configuration of a config.json; keyword arguments as in transformers."""
        if is_ours(config_dict, kwargs.get("name_or_path")):
            return ReplitCodeConfig.from_dict(own_fields(config_dict), **kwargs)
        # Its modeling code would be run with this configuration, which is not the one it was written for.
        fields = {name: value for name, value in config_dict.items() if name != "auto_map"}
        return MptConfig.from_dict(fields, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoConfig") -> None:
        """Nothing: transformers would copy this module into every folder it saves."""


def is_ours(fields: dict[str, Any], name_or_path: Any) -> bool:
    """Whether an MPT config.json belongs to replit's model, to one trained from it, or to an export of ours."""
    if OWN_KEY in fields or str(fields.get("tokenizer_name")).startswith("replit/"):
        return True
    return name_or_path is not None and (Path(str(name_or_path)) / MODEL_FILE).is_file()


def register() -> None:
    """Make our classes known to AutoConfig, AutoModel and AutoModelForCausalLM."""
    AutoConfig.register("replit_code", ReplitCodeConfig, exist_ok=True)
    AutoConfig.register("mpt", MptFolderConfig, exist_ok=True)
    AutoModel.register(ReplitCodeConfig, ReplitCodeModel, exist_ok=True)
    AutoModelForCausalLM.register(ReplitCodeConfig, ReplitCodeForCausalLM, exist_ok=True)
    if version.parse(transformers.__version__).major < 5:
        _prefer_ours_to_remote_code()


def _prefer_ours_to_remote_code() -> None:
    """transformers 4 runs a folder's code under `trust_remote_code=True` although a class is registered; 5 does not."""
    module: Any = configuration_auto
    original = module.get_class_from_dynamic_module

    def class_of(class_reference: str, *args: Any, **kwargs: Any) -> Any:
        if class_reference.split("--")[-1] == _PUBLISHED_CLASS:
            return MptFolderConfig
        return original(class_reference, *args, **kwargs)

    module.get_class_from_dynamic_module = class_of
