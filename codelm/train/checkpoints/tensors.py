"""Tensors on disk, each rank's own parts in one safetensors file; read back into whatever parts another run has.

A key is a tensor's name and where the part begins in it: `model/wte.weight@512,0`; the whole shapes are in the header.
"""

import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from torch.distributed._shard.sharded_tensor import ShardedTensor
from torch.distributed.tensor import DTensor, Replicate

from codelm.errors import CheckpointError
from codelm.train.checkpoints.hashes import Fingerprint, new_hash

SUFFIX = ".safetensors"
_SHAPES = "shapes"
_ALIGNMENT = 8
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
Offsets = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """What a rank holds of a tensor."""

    name: str
    offsets: Offsets
    """Where it begins in the whole tensor."""
    whole: tuple[int, ...]
    """The whole tensor's shape."""
    tensor: Tensor


def parts(name: str, tensor: Any) -> list[Part]:
    """What this rank holds of a tensor: all of a plain one, the local shard of a sharded one."""
    if isinstance(tensor, ShardedTensor):
        whole = tuple(tensor.metadata().size)
        held = [(tuple(shard.metadata.shard_offsets), shard.tensor) for shard in tensor.local_shards()]
    elif isinstance(tensor, DTensor):
        whole = tuple(tensor.shape)
        held = [(tuple(chunk.offsets), tensor.to_local()) for chunk in tensor.__create_chunk_list__()]
    else:
        whole = tuple(tensor.shape)
        held = [((0,) * tensor.ndim, tensor)]
    return [Part(name, offsets, whole, local.detach()) for offsets, local in held if local.numel()]


def is_mine(tensor: Any, rank: int) -> bool:
    """Whether this rank is the one that saves its part: of several that hold the same, the first does."""
    if isinstance(tensor, ShardedTensor):
        return True
    if isinstance(tensor, DTensor):
        place = tensor.device_mesh.get_coordinate() or []
        return all(at == 0 for at, kind in zip(place, tensor.placements, strict=True) if isinstance(kind, Replicate))
    return rank == 0


def write_parts(file: Path, held: Iterable[Part]) -> Fingerprint:
    """Write parts as safetensors, one after the other, without a second copy in memory.

    Raises:
        OSError: the disk is full.
    """
    header: dict[str, Any] = {}
    shapes: dict[str, list[int]] = {}
    tensors, offset = [], 0
    # Widest first, as the format asks: every tensor then begins at a multiple of its item's size.
    for part in sorted(held, key=lambda part: (-part.tensor.element_size(), part.name, part.offsets)):
        size = part.tensor.numel() * part.tensor.element_size()
        header[f"{part.name}@{','.join(map(str, part.offsets))}"] = {
            "dtype": _DTYPES[part.tensor.dtype],
            "shape": [*part.tensor.shape],
            "data_offsets": [offset, offset + size],
        }
        shapes[part.name] = [*part.whole]
        tensors.append(part.tensor)
        offset += size
    encoded = json.dumps({"__metadata__": {_SHAPES: json.dumps(shapes)}, **header}).encode()
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    digest, written = new_hash(), 0
    with file.open("wb") as stream:
        for block in (struct.pack("<Q", len(encoded)), encoded, *map(_bytes, tensors)):
            stream.write(block)
            digest.update(block)
            written += len(block)
    return Fingerprint(written, digest.hexdigest())


def _bytes(tensor: Tensor) -> memoryview:
    numbers = tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return memoryview(numbers)  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True)
class _Place:
    """A part on disk."""

    file: Path
    key: str
    offsets: Offsets
    shape: tuple[int, ...]


@dataclass
class StoredTensors:
    """All tensors of a checkpoint, in whatever files they are; read lazily, only what is asked for."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    places: dict[str, list[_Place]] = field(default_factory=dict)
    open_files: dict[Path, Any] = field(default_factory=dict)

    def add_parts(self, file: Path) -> None:
        """Add what `write_parts` wrote."""
        opened = self._opened(file)
        shapes = json.loads((opened.metadata() or {})[_SHAPES])
        for key in opened.keys():  # noqa: SIM118 (safetensors' handle is no mapping)
            name, _, at = key.rpartition("@")
            offsets = tuple(int(number) for number in at.split(",") if number)
            self._add(name, tuple(shapes[name]), _Place(file, key, offsets, tuple(opened.get_slice(key).get_shape())))

    def add_whole(self, file: Path, prefix: str) -> None:
        """Add a safetensors file of whole tensors, such as transformers', under names with a prefix."""
        opened = self._opened(file)
        for key in opened.keys():  # noqa: SIM118
            shape = tuple(opened.get_slice(key).get_shape())
            self._add(prefix + key, shape, _Place(file, key, (0,) * len(shape), shape))

    def fill(self, name: str, tensor: Any) -> None:
        """Copy into a tensor, sharded or not, what this rank holds of it.

        Raises:
            CheckpointError: it is not there, or of another shape, or not there in whole.
        """
        if name not in self.shapes:
            raise CheckpointError(f"the checkpoint lacks {name}; it is of another model or optimizer")
        if self.shapes[name] != tuple(tensor.shape):
            raise CheckpointError(
                f"{name} has shape {self.shapes[name]} in the checkpoint and {tuple(tensor.shape)} in this run"
            )
        for part in parts(name, tensor):
            filled = sum(self._copy(place, part) for place in self.places[name])
            if filled != part.tensor.numel():
                raise CheckpointError(f"the checkpoint holds only a part of {name}; a rank's file is missing")

    def close(self) -> None:
        self.open_files.clear()

    def _add(self, name: str, shape: tuple[int, ...], place: _Place) -> None:
        self.shapes[name] = shape
        self.places.setdefault(name, []).append(place)

    def _opened(self, file: Path) -> Any:
        if file not in self.open_files:
            try:
                self.open_files[file] = safe_open(file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{file} cannot be read: {error}") from error
        return self.open_files[file]

    def _copy(self, place: _Place, part: Part) -> int:
        """Copy what the two have in common; return how many elements that is."""
        if not place.shape:
            part.tensor.copy_(self._opened(place.file).get_tensor(place.key))
            return 1
        theirs, ours = [], []
        for begin, length, own_begin, own_length in zip(
            place.offsets, place.shape, part.offsets, part.tensor.shape, strict=True
        ):
            low, high = max(begin, own_begin), min(begin + length, own_begin + own_length)
            if low >= high:
                return 0
            theirs.append(slice(low - begin, high - begin))
            ours.append(slice(low - own_begin, high - own_begin))
        common = part.tensor[tuple(ours)]
        common.copy_(self._opened(place.file).get_slice(place.key)[tuple(theirs)])
        return common.numel()
