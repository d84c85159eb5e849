"""Checkpoints: a folder for each, whole or absent, that both Composer and transformers can load.

`save_folder/ba000050/` is a transformers folder (config.json, model.safetensors, tokenizer files) that also holds
`composer/`, the full training state for resuming, and `run.json`, what the run was. It is written under a temporary
name, synced and renamed; `save_folder/latest` then points to it.
"""

import contextlib
import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Event, Logger, State
from composer.utils import checkpoint as composer_checkpoint
from composer.utils import dist
from composer.utils.misc import create_interval_scheduler
from pydantic import TypeAdapter, ValidationError
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from codelm.config.model import ModelSection
from codelm.errors import CheckpointError, from_os_error
from codelm.files import sync_to_disk
from codelm.model.pretrained import LATEST, save_transformers
from codelm.train.composer_model import ComposerCausalLM

log = logging.getLogger(__name__)

_NAME = re.compile(r"ba(\d{6,})")
RUN_FILE = "run.json"
RUN_FORMAT = 1
_TEMPORARY = ".tmp-"
# A checkpoint being written, its transformers part being written, a checkpoint being removed.
_LEFT_BEHIND = re.compile(rf"{re.escape(_TEMPORARY)}(old-|{re.escape(_TEMPORARY)})?ba\d{{6,}}(-\d+)?")
_MONOLITH = "rank0.pt"
_ANY_MODEL: TypeAdapter = TypeAdapter(ModelSection)


def checkpoints(save_folder: Path) -> list[Path]:
    """The checkpoints in a folder by their batches; a folder under its final name is whole."""
    found = [(int(m[1]), path) for path in save_folder.glob("ba*") if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found)]


def newest_checkpoint(save_folder: Path) -> Path | None:
    """The checkpoint with the most batches, or None."""
    return next(reversed(checkpoints(save_folder)), None)


def tidy(save_folder: Path) -> None:
    """Undo what a kill left behind: half-written and half-removed folders, and a `latest` of the moment before."""
    for path in save_folder.glob(f"{_TEMPORARY}*"):
        if _LEFT_BEHIND.fullmatch(path.name):
            _remove(path)
    newest = newest_checkpoint(save_folder)
    if newest is not None and (save_folder / LATEST).resolve() != newest.resolve():
        _point_latest_to(newest)


def read_run(checkpoint: Path) -> dict[str, Any]:
    """The run that left a checkpoint.

    Raises:
        CheckpointError: `run.json` is absent, torn or of another format.
    """
    try:
        run = json.loads((checkpoint / RUN_FILE).read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is no checkpoint of a codelm run: {RUN_FILE}: {error}") from error
    if not isinstance(run, dict) or run.get("format") != RUN_FORMAT:
        raise CheckpointError(f"{checkpoint / RUN_FILE} is not of format {RUN_FORMAT}, which this codelm reads")
    return run


def composer_load_path(checkpoint: Path, sharded: bool) -> str:
    """What Composer's `load_path` must be to resume from a checkpoint.

    Raises:
        CheckpointError: it was saved in the other of the two forms, sharded and full.
    """
    folder = checkpoint / "composer"
    saved_sharded = (folder / ".metadata").is_file()
    if not saved_sharded and not (folder / _MONOLITH).is_file():
        raise CheckpointError(
            f"{checkpoint} holds no training state; delete the folder to use the checkpoint before it"
        )
    if saved_sharded != sharded:
        was, wanted = ("sharded", "full") if saved_sharded else ("full", "sharded")
        raise CheckpointError(
            f"{checkpoint} holds a {was} training state and this run would load a {wanted} one;"
            f" set fsdp_config.state_dict_type={was}"
            + (" (with fsdp_config on several ranks)" if saved_sharded else ", or leave fsdp_config out")
        )
    return str(folder if sharded else folder / _MONOLITH)


def check_same_run(checkpoint: Path, config: dict[str, Any], tokenizer: dict[str, Any]) -> None:
    """Refuse to continue a run with another model, kind of optimizer or tokenizer.

    Raises:
        CheckpointError: with the differences.
    """
    run = read_run(checkpoint)
    before, now = _model_section(run["config"]["model"]), _model_section(config["model"])
    keys = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    if keys:
        changes = "; ".join(f"model.{key} was {before.get(key)!r} and is now {now.get(key)!r}" for key in keys)
        raise CheckpointError(
            f"{checkpoint} is of another model ({changes}); restore the former values or choose another save_folder"
        )
    former, name = run["config"]["optimizer"]["name"], config["optimizer"]["name"]
    if former != name:
        raise CheckpointError(
            f"{checkpoint} holds the state of {former}, which {name} cannot continue; set optimizer.name={former}, or"
            " start a new run in another save_folder with load_path"
        )
    if run["tokenizer"]["model_sha256"] != tokenizer["model_sha256"]:
        raise CheckpointError(
            f"{checkpoint} was trained with another tokenizer; restore it or choose another save_folder"
        )


def _model_section(section: dict[str, Any]) -> dict[str, Any]:
    """The section with the keys that came after it was written, and without what may change within a run."""
    # A section of another version of codelm may not be valid; its keys are compared as they are.
    with contextlib.suppress(ValidationError):
        section = _ANY_MODEL.validate_python(section).model_dump(mode="json")
    attention = {key: value for key, value in section.get("attn_config", {}).items() if key != "attn_impl"}
    return {**section, "attn_impl": None, "attn_config": attention}


def unwrapped(model: torch.nn.Module) -> ComposerCausalLM:
    """The ComposerModel inside DDP, if any."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(inner, ComposerCausalLM)
    return inner


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether parameters are spread over ranks."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def full_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The transformers model's whole state dict on CPU; every rank must call, rank 0 alone gets it under FSDP."""
    inner = unwrapped(model).model
    if is_sharded(inner):
        return dict(get_model_state_dict(inner, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))  # pyright: ignore
    return {name: tensor.detach().cpu() for name, tensor in inner.state_dict().items()}


class CheckpointSaver(Callback):
    """Write a checkpoint at an interval and at the end; keep the newest few."""

    def __init__(
        self, save_folder: Path, interval: str, keep: int, tokenizer_folder: Path, run: dict[str, Any]
    ) -> None:
        self.save_folder = save_folder
        self.keep = keep
        self.tokenizer_folder = tokenizer_folder
        self.run = run
        self.is_due = create_interval_scheduler(interval, include_end_of_training=True)
        self.last_saved = -1

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        self._save_if_due(state, Event.BATCH_CHECKPOINT)

    def epoch_checkpoint(self, state: State, logger: Logger) -> None:
        self._save_if_due(state, Event.EPOCH_CHECKPOINT)

    def _save_if_due(self, state: State, event: Event) -> None:
        if self.is_due(state, event) and int(state.timestamp.batch) != self.last_saved:
            self.save(state)

    def save(self, state: State) -> Path:
        """Write the checkpoint of this moment; every rank must call.

        Raises:
            EnvironmentFailure: the disk is full; what was begun is removed, and the checkpoint before is untouched.
        """
        batch = int(state.timestamp.batch)
        target = self.save_folder / f"ba{batch:06d}"
        temporary = self.save_folder / f"{_TEMPORARY}{target.name}"
        weights = full_weights(state.model)
        if dist.get_global_rank() == 0:
            _remove(temporary)
        dist.barrier()
        try:
            if dist.get_global_rank() == 0:
                self._write_transformers(state, weights, temporary)
            dist.barrier()
            self._write_training_state(state, temporary / "composer")
            if dist.get_global_rank() == 0:
                _publish(temporary, target)
                self._prune()
        except OSError as error:
            _remove(temporary)
            raise from_os_error(error) from error
        except RuntimeError as error:
            # torch's zip writer turns a full disk into a RuntimeError of its own.
            if shutil.disk_usage(self.save_folder).free > 1 << 20:
                raise
            _remove(temporary)
            raise from_os_error(OSError(28, "No space left on device", str(target))) from error
        dist.barrier()
        self.last_saved = batch
        log.info("saved %s", target)
        return target

    def _write_transformers(self, state: State, weights: dict[str, torch.Tensor], folder: Path) -> None:
        save_transformers(weights, unwrapped(state.model).model.config, self.tokenizer_folder, folder)
        run = {"batch": int(state.timestamp.batch), "tokens": int(state.timestamp.token), **self.run}
        (folder / RUN_FILE).write_text(json.dumps(run, indent=1) + "\n")

    def _write_training_state(self, state: State, folder: Path) -> None:
        saved = composer_checkpoint.save_checkpoint(state, str(folder / _MONOLITH))
        # Composer's last act on every rank is to look for the file under its first name.
        dist.barrier()
        if dist.get_global_rank() == 0 and saved is not None and Path(saved).parent != folder:
            # Sharded states come in a folder of Composer's naming below the one that was asked for.
            inner = Path(saved).parent
            for path in inner.iterdir():
                path.rename(folder / path.name)
            inner.rmdir()

    def _prune(self) -> None:
        for old in checkpoints(self.save_folder)[: -self.keep]:
            _remove(old.rename(old.with_name(f"{_TEMPORARY}old-{old.name}")))


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _publish(temporary: Path, target: Path) -> None:
    for path in [*temporary.rglob("*"), temporary]:
        sync_to_disk(path)
    temporary.rename(target)
    _point_latest_to(target)


def _point_latest_to(target: Path) -> None:
    pointer = target.with_name(f"{_TEMPORARY}{LATEST}")
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(target.name)
    pointer.replace(target.with_name(LATEST))
    sync_to_disk(target.parent)
