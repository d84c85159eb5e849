"""Weights on disk: safetensors (or a pickle that holds tensors and nothing else), whole or in shards."""

import json
import math
import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PretrainedConfig

from codelm.errors import CheckpointError, EnvironmentFailure

SAFETENSORS = "model.safetensors"
HASH_FILE = "weights.xxh128"
"""Hashes of the weight files beside it, as `xxh128sum` writes and `xxh128sum -c` checks them."""
_FILES = (SAFETENSORS, f"{SAFETENSORS}.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_CHUNK = 1 << 24


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
    files = _read_index(file)
    weights: dict[str, Tensor] = {}
    for shard in sorted(set(files.values())):
        weights |= _read_file(folder / shard)
    lost = sorted(files.keys() - weights.keys())
    if lost:
        raise CheckpointError(
            f"{file} names {len(lost)} weights ({_some(lost)}) that its shards do not hold; copy the checkpoint again"
        )
    return weights


def _read_index(file: Path) -> dict[str, str]:
    """The shard of each weight."""
    try:
        files = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file} is not a weight index ({error!r}); copy the checkpoint again") from error
    if not isinstance(files, dict):
        raise CheckpointError(f"{file} is not a weight index; copy the checkpoint again")
    for shard in files.values():
        # An index is as hostile as the folder it comes in: it may not point outside.
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(f"{file} names {shard!r}, which is no file of its own folder; it was not loaded")
    return files


def _read_file(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise CheckpointError(f"the weights {file} are missing; copy the checkpoint again")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            # A pickle of another kind is refused, in our sentence; torch would write two of its own first.
            warnings.simplefilter("ignore", UserWarning)
            weights: Any = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{file} holds more than tensors, or is torn; it was not loaded") from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        # torch goes on for four sentences; of some torn files it says no more than "Invalid argument".
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0]
        raise CheckpointError(f"the weights {file} cannot be read ({reason}); copy the checkpoint again") from error
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise CheckpointError(f"{file} holds something else than a state dict; it was not loaded")
    return dict(weights)


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


def write_hashes(folder: Path, files: Iterable[str] = (SAFETENSORS,)) -> None:
    """Record the hashes of weight files, for `check_hashes`."""
    lines = [f"{_hash(folder / name)}  {name}\n" for name in files]
    (folder / HASH_FILE).write_text("".join(lines), encoding="utf-8")


def check_hashes(folder: Path) -> None:
    """Refuse weight files that are not those a folder was written with; one without a record passes.

    Reading at 10 GB/s and more, the hash costs less than the copy from the disk. It finds damage, not malice: who can
    replace the weights can replace the record.

    Raises:
        CheckpointError: naming the file.
    """
    record = folder / HASH_FILE
    if not record.is_file():
        return
    for line in record.read_text(encoding="utf-8", errors="replace").splitlines():
        expected, separator, name = line.partition("  ")
        if not separator or Path(name).name != name:
            raise CheckpointError(f"{record} is not a list of hashes; copy the checkpoint again")
        file = folder / name
        if not file.is_file():
            raise CheckpointError(f"the weights {file} are missing; copy the checkpoint again")
        found = _hash(file)
        if found != expected:
            raise CheckpointError(
                f"{file} has hash {found[:12]}…, but {HASH_FILE} says {expected[:12]}…: it is damaged or was replaced; "
                f"copy the checkpoint again, or delete {HASH_FILE} if you changed the weights on purpose"
            )


def _hash(file: Path) -> str:
    digest = xxhash.xxh3_128()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


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


def drop_tied_head(weights: dict[str, Tensor], config: PretrainedConfig) -> None:
    """Drop the output layer's copy of tied embeddings, which files do not hold.

    Raises:
        CheckpointError: it is no copy.
    """
    head = weights.get("lm_head.weight")
    if head is None or not getattr(config, "tie_word_embeddings", False):
        return
    if not any(
        name != "lm_head.weight" and tensor.shape == head.shape and torch.equal(tensor, head)
        for name, tensor in weights.items()
    ):
        raise CheckpointError("the configuration ties the output layer to the embedding, but their weights differ")
    del weights["lm_head.weight"]


def check_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Refuse NaN and infinite weights.

    One pass over the smallest and largest value, either of which is NaN where any weight is: it reads 5 to 10 GB/s on
    one core and needs no memory, where `isfinite` takes a byte for each weight and forty times as long.

    Raises:
        CheckpointError: naming the first such weight.
    """
    bad = [name for name, tensor in weights.items() if tensor.is_floating_point() and not _is_finite(tensor)]
    if bad:
        others = f", and so do {len(bad) - 1} others" if len(bad) > 1 else ""
        raise CheckpointError(
            f"{source}: {bad[0]} holds NaN or infinite weights{others}; the training diverged before it was saved, or "
            "the file is damaged: go back to an earlier checkpoint"
        )


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.numel():
        return True
    return all(math.isfinite(value.item()) for value in tensor.detach().aminmax())


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
