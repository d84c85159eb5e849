"""Save a model as a transformers folder: whole or not at all, readable without codelm wherever that is possible."""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from codelm.errors import CheckpointError, TokenizerError, from_os_error
from codelm.files import sync_to_disk
from codelm.model.configuration import ReplitCodeConfig
from codelm.model.fast_tokenizer import write_fast_tokenizer
from codelm.model.modeling import ReplitCodeForCausalLM
from codelm.model.native import native_config, native_obstacle
from codelm.model.weights import SAFETENSORS, check_weights, drop_tied_head, write_hashes, write_weights
from codelm.tokenizer import CodeTokenizer, JsonTokenizer, load_tokenizer

log = logging.getLogger(__name__)

_NO_BOUND = int(1e30)
"""What transformers writes as a tokenizer's length when a model has none."""


def save_transformers(
    model: PreTrainedModel | Mapping[str, Tensor],
    config: PretrainedConfig,
    tokenizer_folder: str | Path,
    folder: str | Path,
    dtype: torch.dtype | None = None,
    native: bool | None = None,
) -> None:
    """Write a transformers folder: config, weights, tokenizer; whole or not at all.

    Args:
        model: the model, or its whole state dict.
        config: its configuration; a `ReplitCodeConfig` is written as native MPT.
        tokenizer_folder: holds `spiece.model`, or the `tokenizer.json` of another model.
        folder: must not exist yet, or be empty.
        dtype: of the written weights; None keeps theirs.
        native: True refuses what native MPT cannot compute; None then writes a folder that needs codelm, and says so.

    Raises:
        CheckpointError: the folder is in use, or the parts do not fit each other.
        EnvironmentFailure: the disk is full or read-only; nothing is left behind.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder} already exists; name another folder or remove it")
    tokenizer = load_tokenizer(tokenizer_folder)
    weights = dict(model.state_dict() if isinstance(model, PreTrainedModel) else model)
    if any(name.endswith((".SCB", ".absmax")) for name in weights):
        raise CheckpointError("a model in 8 or 4 bits cannot be saved; save the one that it was made from")
    weights = {
        name: tensor.detach().to("cpu", dtype) if tensor.is_floating_point() else tensor.detach().cpu()
        for name, tensor in weights.items()
    }
    drop_tied_head(weights, config)
    fields = _config_fields(weights, config, native)
    if tokenizer.vocab_size > fields["vocab_size"]:
        raise CheckpointError(
            f"the tokenizer in {tokenizer_folder} has {tokenizer.vocab_size} tokens, but the model embeds "
            f"{fields['vocab_size']}: they do not belong together"
        )
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write_weights(weights, temporary / SAFETENSORS)
        write_hashes(temporary)
        _write_json(temporary / "config.json", fields)
        _write_json(temporary / "generation_config.json", _generation_fields(tokenizer))
        write_tokenizer(tokenizer, temporary, fields)
        # safetensors leaves its file readable by its owner alone.
        shutil.copymode(temporary / "config.json", temporary / SAFETENSORS)
        for written in [*temporary.iterdir(), temporary]:
            sync_to_disk(written)
        temporary.rename(folder)
        sync_to_disk(folder.parent)
    except OSError as error:
        raise from_os_error(error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_tokenizer(tokenizer: CodeTokenizer | JsonTokenizer, folder: Path, config: Mapping[str, Any]) -> None:
    """Write a tokenizer's files, the fast form beside the exact one; `config` is the content of config.json.

    Raises:
        OSError: the disk is full.
    """
    tokenizer.save(folder)
    if not isinstance(tokenizer, CodeTokenizer):
        return
    try:
        write_fast_tokenizer(tokenizer, folder, _longest(config))
    except TokenizerError as error:
        log.warning("%s; without tokenizer.json, the folder's tokenizer loads with codelm only", error)


def _config_fields(weights: dict[str, Tensor], config: PretrainedConfig, native: bool | None) -> dict[str, Any]:
    dtype = str(next(tensor.dtype for tensor in weights.values() if tensor.is_floating_point())).removeprefix("torch.")
    if not isinstance(config, ReplitCodeConfig):
        fields = json.loads(config.to_json_string(use_diff=True))
        return {**fields, "torch_dtype": dtype, "vocab_size": config.vocab_size}
    with torch.device("meta"):
        skeleton = ReplitCodeForCausalLM(config)
    check_weights(weights, {name: p.shape for name, p in skeleton.named_parameters()}, "the model to save")
    obstacle = native_obstacle(config)
    if obstacle and not native:
        log.warning("%s; the folder will load with codelm only", obstacle)
        fields = json.loads(config.to_json_string(use_diff=False))
        fields["attn_config"]["attn_impl"] = "torch"
        return {**fields, "architectures": ["ReplitCodeForCausalLM"], "torch_dtype": dtype}
    return native_config(config, dtype)


def _longest(fields: Mapping[str, Any]) -> int:
    names = ("max_seq_len", "max_position_embeddings", "n_positions")
    return next((fields[name] for name in names if isinstance(fields.get(name), int)), _NO_BOUND)


def _generation_fields(tokenizer: CodeTokenizer | JsonTokenizer) -> dict[str, Any]:
    return {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id, "use_cache": True}


def _write_json(file: Path, fields: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
