"""The model card of a checkpoint as training leaves it; an export has one of its own, with what is measured there."""

import json
import logging
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open

from codelm.data.shards import write_atomically
from codelm.errors import CodelmError
from codelm.export.card import CardFacts, model_card, read_run
from codelm.export.scores import METRICS_FILE, held_out_rows
from codelm.export.transformers_folder import USAGE
from codelm.model.lineage import ancestors
from codelm.model.weights import SAFETENSORS

log = logging.getLogger(__name__)

CARD_FILE = "README.md"


def leave_checkpoint_card(checkpoint: Path) -> None:
    """Write the card at the end of a run; what fails here is no reason for the run to fail."""
    try:
        write_checkpoint_card(checkpoint)
    except (CodelmError, OSError, KeyError, ValueError) as error:
        log.warning("%s was not written: %s: %s", checkpoint / CARD_FILE, type(error).__name__, error)


def write_checkpoint_card(checkpoint: Path) -> bool:
    """Write a checkpoint's README.md; whether it is one that needs one: a whole model, with its run's record.

    Raises:
        OSError: the disk is full.
    """
    run = read_run(checkpoint)
    if run is None or not (checkpoint / SAFETENSORS).is_file():
        return False
    config: dict[str, Any] = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    with safe_open(checkpoint / SAFETENSORS, framework="pt") as file:
        parameters = sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    facts = CardFacts(
        name=run["config"]["run_name"],
        parameters=parameters,
        config=config,
        weights=str(config.get("torch_dtype") or config.get("dtype")),
        run=run,
        lineage=ancestors(checkpoint),
        usage=USAGE,
        measured=(),
        scores=held_out_rows(checkpoint.parent / METRICS_FILE, int(run["batch"])),
        front=["library_name: transformers"],
    )
    write_atomically(checkpoint / CARD_FILE, model_card(facts).encode())
    return True
