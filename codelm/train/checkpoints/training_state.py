"""What a run needs to go on exactly: weights, optimizer, schedules, random numbers, place in the data.

Composer's own checkpoints are either whole or sharded and come back only as what they were; these are read into any
number of ranks, sharded or not, since each tensor is found by its name and place. Composer's State still says what else
there is to keep.
"""

import collections
import datetime
import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from composer import State
from composer.utils import dist, reproducibility
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.torch_version import TorchVersion

from codelm.errors import CheckpointError
from codelm.model.weights import SAFETENSORS
from codelm.train.adapters import adapter_parameters, has_adapters
from codelm.train.checkpoints.folder import STATE_FOLDER
from codelm.train.checkpoints.hashes import Fingerprint
from codelm.train.checkpoints.tensors import SUFFIX, Part, StoredTensors, is_mine, parts, write_parts
from codelm.train.checkpoints.weights import names_in_transformers_folder, unwrapped

RUN_STATE = "run_state.pt"
_FORMAT = 1
_MODEL, _OPTIMIZER = "model/", "optimizer/"
# Composer's objects that keep something between batches, by the attribute of its State.
_KEPT = ("schedulers", "algorithms", "callbacks")


@dataclass(frozen=True)
class TrainingState:
    """What one rank has to save."""

    parts: list[Part]
    run_state: dict[str, Any]
    """All that is no tensor of the model or the optimizer; the same on every rank."""

    def write(self, folder: Path, rank: int, world_size: int) -> dict[str, Fingerprint]:
        """Write this rank's files; return them by name, with what they must be.

        Raises:
            OSError: the disk is full.
        """
        name = f"rank{rank:05d}-of-{world_size:05d}{SUFFIX}"
        written = {name: write_parts(folder / name, self.parts)}
        if rank == 0:
            # torch's own writer turns a full disk into a RuntimeError of many lines.
            packed = io.BytesIO()
            torch.save(self.run_state, packed)
            (folder / RUN_STATE).write_bytes(packed.getbuffer())
        return written


def capture(state: State, copy: bool) -> TrainingState:
    """The training state of this moment; every rank must call.

    Args:
        state: Composer's.
        copy: take copies in CPU memory, so that training may go on while they are written.
    """
    rank = dist.get_global_rank()
    values: dict[str, dict[str, Any]] = {}
    held: list[Part] = []
    elsewhere = {f"{_MODEL}model.{name}" for name in names_in_transformers_folder(state.model)}
    optimizer = _optimizer_state(state, full=state.fsdp_state_dict_type == "full")
    for name, value in [*_model_tensors(state.model), *_optimizer_entries(optimizer)]:
        if not isinstance(value, torch.Tensor) and not hasattr(value, "local_shards"):
            values[name] = value
        elif name not in elsewhere and is_mine(value, rank):
            held += parts(name, value)
    if copy:
        held = [Part(part.name, part.offsets, part.whole, part.tensor.to("cpu", copy=True)) for part in held]
    return TrainingState(
        parts=held,
        run_state={
            "format": _FORMAT,
            "timestamp": state.timestamp.state_dict(),
            **{kind: [(type(o).__qualname__, o.state_dict()) for o in getattr(state, kind)] for kind in _KEPT},
            "scaler": state.scaler.state_dict() if state.scaler is not None else None,
            "dataset_state": state._dataset_state_dict(),
            "param_groups": optimizer["param_groups"],
            "values": values,
            "rng": reproducibility.get_rng_state(),
        },
    )


def restore(state: State, checkpoint: Path) -> Callable[[], None]:
    """Set everything back to a checkpoint; return what sets the random numbers, to be called before the first batch.

    Every rank must call, before the model is wrapped in DDP and after it is sharded.

    Raises:
        CheckpointError: the checkpoint is of another model or optimizer, or of another format.
    """
    folder = checkpoint / STATE_FOLDER
    run_state = _read_run_state(folder / RUN_STATE)
    stored = StoredTensors()
    for file in sorted(folder.glob(f"*{SUFFIX}")):
        stored.add_parts(file)
    if (checkpoint / SAFETENSORS).is_file():
        stored.add_whole(checkpoint / SAFETENSORS, f"{_MODEL}model.")
    _restore_model(state, stored)
    _restore_optimizer(state, stored, run_state)
    stored.close()
    state.timestamp.load_state_dict(run_state["timestamp"])
    state._load_dataset_state(run_state["dataset_state"])
    for kind in _KEPT:
        saved = dict(run_state[kind])
        for thing in getattr(state, kind):
            # A callback that the run has only now keeps what it begins with.
            if type(thing).__qualname__ in saved:
                thing.load_state_dict(saved[type(thing).__qualname__])
    if run_state["scaler"] and state.scaler is not None:
        state.scaler.load_state_dict(run_state["scaler"])
    rng = run_state["rng"]

    def set_random_numbers() -> None:
        # On another number of ranks each rank draws what its seed gives, but for those that were there before.
        if dist.get_global_rank() < len(rng):
            reproducibility.load_rng_state([rng[dist.get_global_rank()]] * dist.get_world_size())

    return set_random_numbers


def _model_tensors(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """The state dict without second names of the same tensor (a tied head); of adapters' models the adapters alone."""
    if has_adapters(unwrapped(model).model):
        # The names that the state dict has, without the prefix of DDP.
        trained = adapter_parameters(unwrapped(model))
        yield from ((_MODEL + name, parameter) for name, parameter in trained.items())
        return
    seen: set[tuple[Any, ...]] = set()
    for name, tensor in get_model_state_dict(model, options=StateDictOptions()).items():
        held = parts(name, tensor) if isinstance(tensor, torch.Tensor) or hasattr(tensor, "local_shards") else []
        place = tuple((part.tensor.data_ptr(), part.offsets) for part in held)
        if place and place in seen:
            continue
        seen.add(place)
        yield _MODEL + name, tensor


def _optimizer_state(state: State, full: bool = False) -> dict[str, Any]:
    """By parameters' names; `full` gathers it on rank 0, and the others get nothing."""
    optimizer: Any = state.optimizers[0]
    options = StateDictOptions(full_state_dict=full, cpu_offload=full)
    return {"state": {}, "param_groups": [], **get_optimizer_state_dict(state.model, optimizer, options=options)}


def _optimizer_entries(optimizer: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for parameter, entries in optimizer["state"].items():
        for key, value in entries.items():
            yield f"{_OPTIMIZER}{parameter}/{key}", value


@torch.no_grad()
def _restore_model(state: State, stored: StoredTensors) -> None:
    if has_adapters(unwrapped(state.model).model):
        for name, tensor in _model_tensors(unwrapped(state.model)):
            stored.fill(name, tensor)
        return
    weights: dict[str, Any] = dict(get_model_state_dict(unwrapped(state.model), options=StateDictOptions()))
    for name, tensor in _model_tensors(unwrapped(state.model)):
        stored.fill(name, tensor)
    set_model_state_dict(unwrapped(state.model), weights, options=StateDictOptions())


@torch.no_grad()
def _restore_optimizer(state: State, stored: StoredTensors, run_state: dict[str, Any]) -> None:
    optimizer = _optimizer_state(state)
    for parameter, entries in optimizer["state"].items():
        for key, value in entries.items():
            name = f"{_OPTIMIZER}{parameter}/{key}"
            if isinstance(value, torch.Tensor) or hasattr(value, "local_shards"):
                stored.fill(name, value)
            elif name in run_state["values"]:
                entries[key] = run_state["values"][name]
    before, now = (
        [sorted(group["params"]) for group in groups]
        for groups in (run_state["param_groups"], optimizer["param_groups"])
    )
    if before != now:
        raise CheckpointError(
            "the checkpoint's optimizer groups the parameters otherwise than this run's; start a new run in another"
            " save_folder with load_path"
        )
    optimizer["param_groups"] = run_state["param_groups"]
    which: Any = state.optimizers[0]
    set_optimizer_state_dict(state.model, which, optim_state_dict=optimizer, options=StateDictOptions())


def _read_run_state(file: Path) -> dict[str, Any]:
    """What `torch.load` gives for a file that may hold tensors, arrays, numbers and texts, and run nothing."""
    allowed: list[Any] = [
        np.ndarray,
        np.dtype,
        *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
        np.asarray(0).__reduce__()[0],
        datetime.timedelta,
        collections.defaultdict,
        dict,
        TorchVersion,
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{file.parent.parent} holds no training state; delete the folder to use the checkpoint before it"
        ) from error
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{file} cannot be read: {reason}") from error
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise CheckpointError(f"{file} is not of format {_FORMAT}, which this codelm reads")
    return found
