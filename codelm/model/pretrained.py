"""Load models: ours, the published layout, and any causal language model of transformers. Remote code is never run.

A folder that says MPT becomes a `ReplitCodeForCausalLM`, which computes what transformers' own MPT ignores; with a
`spiece.model` it comes with its exact tokenizer. `save_transformers` writes such folders, see `codelm.model.saving`.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError
from packaging import version
from transformers import AutoModelForCausalLM, PreTrainedModel

from codelm.errors import CheckpointError, ConfigError, EnvironmentFailure
from codelm.model.adapters import CONFIG_FILE, base_of, check_adapted, holds_adapters, merge_adapters
from codelm.model.configuration import check_config
from codelm.model.modeling import ReplitCodeForCausalLM
from codelm.model.native import own_config
from codelm.model.placement import DeviceMap, single_device, spread
from codelm.model.quantization import quantization_kind, quantize
from codelm.model.saving import save_transformers
from codelm.model.weights import check_finite, check_hashes, check_weights, drop_tied_head, read_weights
from codelm.tokenizer import CodeTokenizer, JsonTokenizer, load_tokenizer

__all__ = ["LATEST", "checkpoint_folder", "load", "save_transformers"]

LATEST = "latest"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_HUB_FILES = ["*.json", "*.safetensors", "*.bin", "*.model"]
_OTHERS_ATTENTION = {"sdpa", "eager", "flash_attention_2"}
"""What transformers' other models compute attention with."""


def load(
    path: str | Path,
    dtype: torch.dtype | None = None,
    device_map: DeviceMap = None,
    attn_impl: str | None = None,
    load_in_8bit: bool = False,
    load_in_4bit: bool = False,
) -> tuple[PreTrainedModel, CodeTokenizer | JsonTokenizer]:
    """The model (in evaluation mode) and the tokenizer of a checkpoint.

    Args:
        path: a checkpoint folder, a run's save_folder (its `latest` is taken), an export, the published layout, any
            transformers causal language model's folder, or a hub id. Adapters are merged into the model that they name.
        dtype: of the weights; None keeps the stored one.
        device_map: a device, the CPU when None; `auto` fills the GPUs there are; or a mapping from parts to devices.
        attn_impl: `torch`, `triton` or `flash` for our model; `sdpa`, `eager` or `flash_attention_2` for others.
        load_in_8bit, load_in_4bit: quantise the linear layers, see `codelm.model.quantization`.

    Raises:
        CheckpointError: it is absent, torn, of an unsupported architecture, or its parts do not fit each other.
        TokenizerError: its tokenizer is absent or damaged.
        ConfigError: one of the other arguments asks for what there is not.
        EnvironmentFailure: the hub cannot be reached, or a package is absent.
    """
    kind, device = quantization_kind(load_in_8bit, load_in_4bit), single_device(device_map)
    folder = checkpoint_folder(path)
    adapters = holds_adapters(folder)
    fields = {} if adapters else _read_config(folder)
    tokenizer = load_tokenizer(folder)
    check_hashes(folder)
    if adapters:
        model = _load_adapted(folder, attn_impl)
    elif fields.get("model_type") in ("mpt", "replit_code"):
        model = _load_own(folder, fields, attn_impl)
    else:
        model = _load_any(folder, fields, attn_impl)
    check_finite(dict(model.named_parameters()), str(folder))
    embedded = model.get_input_embeddings().weight.shape[0]  # pyright: ignore[reportIndexIssue]
    if tokenizer.vocab_size > embedded:
        raise CheckpointError(
            f"the tokenizer in {folder} has {tokenizer.vocab_size} tokens, but the model embeds {embedded}; "
            "put the tokenizer it was trained with beside it"
        )
    model.to(dtype=dtype)  # pyright: ignore[reportCallIssue]
    if kind:
        quantize(model, kind, device or "cpu")
    elif device:
        model.to(device=device)  # pyright: ignore[reportCallIssue]
    if not device:
        model = spread(model, device_map)
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
    if not isinstance(fields, dict) or not isinstance(fields.get("model_type"), str):
        raise CheckpointError(f"{file} is not a model's configuration (no model_type); copy the checkpoint again")
    return fields


def _load_adapted(folder: Path, attn_impl: str | None) -> PreTrainedModel:
    base = base_of(folder)
    try:
        model, _ = load(base, attn_impl=attn_impl)
    except CheckpointError as error:
        raise CheckpointError(
            f"{folder} holds adapters for {base}, which cannot be loaded ({error}); put it back, or write where it is"
            f" into {folder / CONFIG_FILE}"
        ) from error
    stored = model.dtype
    model.float()
    check_adapted(model, base, folder)
    return merge_adapters(model, folder).to(stored)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _load_own(folder: Path, fields: dict[str, Any], attn_impl: str | None) -> PreTrainedModel:
    try:
        config = own_config(fields)
    except ConfigError as error:
        raise CheckpointError(f"{folder / 'config.json'}: {error}") from error
    if attn_impl:
        config.attn_config["attn_impl"] = attn_impl
        check_config(config)
    weights = read_weights(folder)
    with torch.device("meta"):
        model = ReplitCodeForCausalLM(config)
    drop_tied_head(weights, config)
    check_weights(weights, {name: p.shape for name, p in model.named_parameters()}, str(folder))
    model.load_state_dict(weights, strict=False, assign=True)
    model.tie_weights()
    return model


def _load_any(folder: Path, fields: dict[str, Any], attn_impl: str | None) -> PreTrainedModel:
    dtype = "dtype" if version.parse(transformers.__version__) >= version.parse("4.56") else "torch_dtype"
    options: dict[str, Any] = {dtype: "auto"}
    if attn_impl:
        if attn_impl not in _OTHERS_ATTENTION:
            raise ConfigError(
                f"attn_impl is {attn_impl!r}, but {folder} (model_type {fields.get('model_type')!r}) is computed by "
                f"transformers, which takes {', '.join(sorted(_OTHERS_ATTENTION))}"
            )
        options["attn_implementation"] = attn_impl
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, output_loading_info=True, **options
        )
        model, report = loaded
    except Exception as error:  # transformers raises whatever the damage leads to
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0].rstrip(".")
        if fields.get("auto_map") and "custom code" in reason:
            reason = "it comes with Python code of its own (auto_map), and no code of a checkpoint is ever run"
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
