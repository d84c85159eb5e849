"""Load and save models: ours, the published layout, and any causal language model of transformers.

A saved folder loads in transformers as its own MPT, without codelm and without remote code. Loaded here, the same
folder becomes a `ReplitCodeForCausalLM` with its exact sentencepiece tokenizer. Remote code is never run.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from packaging import version
from torch import Tensor
from transformers import AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from codelm.errors import CheckpointError, ConfigError, EnvironmentFailure, from_os_error
from codelm.files import sync_to_disk
from codelm.model.configuration import ReplitCodeConfig
from codelm.model.fast_tokenizer import write_fast_tokenizer
from codelm.model.modeling import ReplitCodeForCausalLM
from codelm.model.native import native_config, native_obstacle, own_config
from codelm.model.weights import SAFETENSORS, check_weights, read_weights, write_weights
from codelm.tokenizer import CodeTokenizer, JsonTokenizer, load_tokenizer

log = logging.getLogger(__name__)

LATEST = "latest"
_NO_BOUND = int(1e30)
"""What transformers writes as a tokenizer's length when a model has none."""
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_FILES = ["*.json", "*.safetensors", "*.bin", "*.model"]


def load(
    path: str | Path, dtype: torch.dtype | None = None, device: str | torch.device = "cpu"
) -> tuple[PreTrainedModel, CodeTokenizer | JsonTokenizer]:
    """The model (in evaluation mode) and the tokenizer of a checkpoint.

    Args:
        path: a checkpoint folder, a run's save_folder (its `latest` is taken), an export, the published layout, any
            transformers causal language model's folder, or a hub id.
        dtype: of the weights; None keeps the stored one.

    Raises:
        CheckpointError: it is absent, torn, of an unsupported architecture, or its parts do not fit each other.
        TokenizerError: its tokenizer is absent or damaged.
        EnvironmentFailure: the hub cannot be reached.
    """
    folder = checkpoint_folder(path)
    fields = _read_config(folder)
    tokenizer = load_tokenizer(folder)
    own = fields.get("model_type") in ("mpt", "replit_code") and isinstance(tokenizer, CodeTokenizer)
    model = _load_own(folder, fields) if own else _load_any(folder, fields)
    embedded = model.get_input_embeddings().weight.shape[0]  # pyright: ignore[reportIndexIssue]
    if tokenizer.vocab_size > embedded:
        raise CheckpointError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, but the model embeds {embedded}; "
            "put the tokenizer it was trained with beside it"
        )
    model.to(device=device, dtype=dtype)  # pyright: ignore[reportCallIssue]
    return model.eval(), tokenizer


def checkpoint_folder(path: str | Path) -> Path:
    """The folder that `load` reads: `latest` is followed, a hub id is downloaded; raises what `load` raises."""
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file() and (folder / LATEST).is_symlink():
            folder = folder / LATEST
            if not folder.is_dir():
                raise CheckpointError(
                    f"{folder} points to {os.readlink(folder)}, which is gone; name a checkpoint of the run"
                )
            return folder.resolve()
        return folder
    if folder.exists():
        raise CheckpointError(f"{path} is a file; name the checkpoint's folder")
    if not _HUB_ID.fullmatch(str(path)) or str(path).startswith("."):
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        return Path(snapshot_download(str(path), allow_patterns=_HUB_FILES))
    except (RepositoryNotFoundError, EntryNotFoundError) as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise _unreachable(path) from error
        raise CheckpointError(f"there is no folder {path}, and no such model on the hub") from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _unreachable(path) from error


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
    weights = {
        name: tensor.detach().to("cpu", dtype) if tensor.is_floating_point() else tensor.detach().cpu()
        for name, tensor in weights.items()
    }
    _untie(weights, config)
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
        _write_json(temporary / "config.json", fields)
        _write_json(temporary / "generation_config.json", _generation_fields(tokenizer))
        tokenizer.save(temporary)
        # safetensors leaves its file readable by its owner alone.
        shutil.copymode(temporary / "config.json", temporary / SAFETENSORS)
        if isinstance(tokenizer, CodeTokenizer):
            write_fast_tokenizer(tokenizer, temporary, _longest(fields))
        for written in [*temporary.iterdir(), temporary]:
            sync_to_disk(written)
        temporary.rename(folder)
        sync_to_disk(folder.parent)
    except OSError as error:
        raise from_os_error(error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unreachable(path: str | Path) -> EnvironmentFailure:
    return EnvironmentFailure(
        f"there is no folder {path}, and the hub cannot be reached to look for a model of that name"
    )


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{folder} is no checkpoint: it has no config.json") from None
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}); copy the checkpoint again") from None
    if not isinstance(fields, dict):
        raise CheckpointError(f"{file} is not a model's configuration; copy the checkpoint again")
    return fields


def _load_own(folder: Path, fields: dict[str, Any]) -> PreTrainedModel:
    try:
        config = own_config(fields)
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    weights = read_weights(folder)
    with torch.device("meta"):
        model = ReplitCodeForCausalLM(config)
    _untie(weights, config)
    check_weights(weights, {name: p.shape for name, p in model.named_parameters()}, str(folder))
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    return model


def _load_any(folder: Path, fields: dict[str, Any]) -> PreTrainedModel:
    dtype = "dtype" if version.parse(transformers.__version__) >= version.parse("4.56") else "torch_dtype"
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, output_loading_info=True, **{dtype: "auto"}
        )
        model, report = loaded
    except Exception as error:  # transformers raises whatever the damage leads to
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{folder} (model_type {fields.get('model_type')!r}) cannot be loaded as a causal language model: {reason}"
        ) from error
    for what in ("missing", "unexpected", "mismatched"):
        names = sorted(map(str, report.get(f"{what}_keys", ())))
        if names:
            raise CheckpointError(
                f"{folder} does not fit its configuration: {len(names)} weights {what} ({', '.join(names[:3])})"
            )
    return model


def _untie(weights: dict[str, Tensor], config: PretrainedConfig) -> None:
    """Drop the output layer's copy of tied embeddings, which files do not hold."""
    head = weights.get("lm_head.weight")
    if head is None or not getattr(config, "tie_word_embeddings", False):
        return
    if not any(
        name != "lm_head.weight" and tensor.shape == head.shape and torch.equal(tensor, head)
        for name, tensor in weights.items()
    ):
        raise CheckpointError("the configuration ties the output layer to the embedding, but their weights differ")
    del weights["lm_head.weight"]


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
        return {**fields, "architectures": ["ReplitCodeForCausalLM"], "torch_dtype": dtype}
    return native_config(config, dtype)


def _longest(fields: dict[str, Any]) -> int:
    names = ("max_seq_len", "max_position_embeddings", "n_positions")
    return next((fields[name] for name in names if isinstance(fields.get(name), int)), _NO_BOUND)


def _generation_fields(tokenizer: CodeTokenizer | JsonTokenizer) -> dict[str, Any]:
    return {"eos_token_id": tokenizer.eos_id, "pad_token_id": tokenizer.pad_id, "use_cache": True}


def _write_json(file: Path, fields: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
