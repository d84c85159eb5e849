"""Weights on disk: safetensors (or a pickle that holds tensors and nothing else), whole or in shards."""

import json
import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from codelm.errors import CheckpointError, EnvironmentFailure

SAFETENSORS = "model.safetensors"
_FILES = (SAFETENSORS, f"{SAFETENSORS}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The state dict in a folder, on the CPU.

    Raises:
        CheckpointError: there is none, or it is torn, or it holds more than tensors.
    """
    file = next((folder / name for name in _FILES if (folder / name).is_file()), None)
    if file is None:
        raise CheckpointError(f"{folder} holds no weights; expected {_FILES[0]} or {_FILES[2]}")
    if file.suffix != ".json":
        return _read_file(file)
    try:
        shards = sorted(set(json.loads(file.read_text())["weight_map"].values()))
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{file} is not a weight index ({error!r}); copy the checkpoint again") from error
    weights: dict[str, Tensor] = {}
    for shard in shards:
        weights |= _read_file(folder / shard)
    return weights


def _read_file(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise CheckpointError(f"the weights {file} are missing; copy the checkpoint again")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file} holds more than tensors, or is torn; it was not loaded") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"the weights {file} cannot be read ({error}); copy the checkpoint again") from error


def write_weights(weights: dict[str, Tensor], file: Path) -> None:
    """Write a state dict as safetensors, with the metadata that transformers asks for.

    Raises:
        OSError, EnvironmentFailure: the disk is full.
    """
    try:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise EnvironmentFailure(
            f"writing {file} failed: {error}; free some space and run the same command again"
        ) from error


def check_weights(weights: dict[str, Tensor], expected: dict[str, torch.Size], source: str) -> None:
    """Refuse a state dict that is not exactly the expected one.

    Raises:
        CheckpointError: naming the keys or shapes that differ.
    """
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        parts = [
            f"{len(names)} {what} ({_some(names)})"
            for what, names in (("missing", missing), ("unknown", extra))
            if names
        ]
        raise CheckpointError(f"{source} does not fit its configuration: weights {' and '.join(parts)}")
    wrong = [name for name, shape in expected.items() if weights[name].shape != shape]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{source} does not fit its configuration: {name} has shape {tuple(weights[name].shape)}, "
            f"not {tuple(expected[name])}{f', and {len(wrong) - 1} others differ' if len(wrong) > 1 else ''}"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
