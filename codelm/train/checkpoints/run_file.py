"""`run.json`: what the run was that left a checkpoint, and whether another run may go on from it."""

import contextlib
import json
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from codelm.config.model import ModelSection
from codelm.config.training.checkpoints import SaveBestSection
from codelm.errors import CheckpointError

RUN_FILE = "run.json"
RUN_FORMAT = 1
_ANY_MODEL: TypeAdapter = TypeAdapter(ModelSection)


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


def metric_of(run: dict[str, Any], best: SaveBestSection | None) -> float | None:
    """The metric of `save_best` at a checkpoint, from its `run.json`; None where it was not measured."""
    value = run.get("metrics", {}).get(best.metric) if best is not None else None
    return float(value) if value is not None else None


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


def changes(run: dict[str, Any], config: dict[str, Any]) -> list[str]:
    """The settings that a run went by and that are others now, a few words each."""
    before, now = _flat(run["config"]), _flat(config)
    keys = [key for key in [*before, *(key for key in now if key not in before)] if before.get(key) != now.get(key)]
    return [f"{key} was {_said(before.get(key))} and is now {_said(now.get(key))}" for key in keys]


def _flat(section: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Values by their dotted keys; an empty section has none."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{above}{key}.")
        elif value is not None:
            found[f"{above}{key}"] = value
    return found


def _said(value: Any) -> str:
    return "not set" if value is None else str(value)


def _model_section(section: dict[str, Any]) -> dict[str, Any]:
    """The section with the keys that came after it was written, and without what may change within a run."""
    # A section of another version of codelm may not be valid; its keys are compared as they are.
    with contextlib.suppress(ValidationError):
        section = _ANY_MODEL.validate_python(section).model_dump(mode="json")
    attention = {key: value for key, value in section.get("attn_config", {}).items() if key != "attn_impl"}
    return {**section, "attn_impl": None, "attn_config": attention}
