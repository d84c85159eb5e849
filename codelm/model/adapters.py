"""Adapters on disk, in peft's layout, and a model with them merged into its weights."""

import json
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import nn
from transformers import PreTrainedModel

from codelm.errors import CheckpointError, EnvironmentFailure

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
BASE_FILE = "adapter_base.json"
"""What the weights below the adapters are: their place and a hash."""
NAME = "default"
PREFIX = "base_model.model."
"""Before each name in peft's files."""


def import_peft(who: str) -> Any:
    """The package peft.

    Raises:
        EnvironmentFailure: it is absent; `who` is what needs it.
    """
    try:
        import peft
    except ImportError as error:
        raise EnvironmentFailure(
            f"{who} needs the package peft, which is not installed: pip install --no-deps peft==0.21.2 accelerate"
        ) from error
    return peft


def holds_adapters(folder: Path) -> bool:
    """Whether a folder holds adapters and no model."""
    return (folder / CONFIG_FILE).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """The model that adapters belong to, a folder or a hub id.

    Raises:
        CheckpointError: the folder does not say.
    """
    file = folder / CONFIG_FILE
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read ({error}); copy the checkpoint again") from error
    if not isinstance(base, str) or not base:
        raise CheckpointError(f"{file} does not name the model that the adapters belong to (base_model_name_or_path)")
    return base


def weights_hash(model: nn.Module) -> str:
    """A fingerprint of all weights in the type that they are held in."""
    digest = xxhash.xxh3_128()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def check_adapted(model: nn.Module, base: str, folder: Path) -> None:
    """Refuse a model, with its weights in fp32, that is not the one that a folder's adapters were trained on.

    Raises:
        CheckpointError: naming both. Adapters that were trained elsewhere say nothing of their base, and pass.
    """
    file = folder / BASE_FILE
    if not file.is_file():
        return
    try:
        expected = json.loads(file.read_text(encoding="utf-8"))["xxh3_128"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{file} cannot be read ({error!r}); copy the checkpoint again") from error
    if expected != weights_hash(model):
        raise CheckpointError(
            f"{folder} holds adapters that were trained on other weights than those of {base}; restore them, or delete"
            f" {BASE_FILE} if they were changed on purpose"
        )


def merge_adapters(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with a folder's adapters merged into its weights, which are changed in place.

    Raises:
        CheckpointError: the adapters do not fit the model, or are damaged.
        EnvironmentFailure: peft is absent.
    """
    peft = import_peft(f"{folder}, which holds adapters,")
    try:
        adapted = peft.PeftModel.from_pretrained(model, folder)
        merged: PreTrainedModel = adapted.merge_and_unload(safe_merge=True)
    except Exception as error:  # peft raises whatever the damage leads to
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"the adapters in {folder} cannot be merged into {base_of(folder)}: {reason}") from error
    if hasattr(merged, "peft_config"):
        del merged.peft_config
    return merged
