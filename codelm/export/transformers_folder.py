"""Export to a transformers folder that loads without codelm: written, checked against its source, then published."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from codelm.errors import CheckpointError, from_os_error
from codelm.export.card import model_card, read_run
from codelm.export.parity import Parity, check_parity
from codelm.model.fast_tokenizer import MISMATCH_FILE, Mismatch
from codelm.model.pretrained import checkpoint_folder, load, save_transformers


@dataclass(frozen=True)
class Exported:
    """What `export_transformers` wrote and measured."""

    folder: Path
    parameters: int
    parity: Parity
    mismatch: Mismatch | None
    """None when the model came with a tokenizer.json of its own."""


def export_transformers(checkpoint: str | Path, output: str | Path, dtype: torch.dtype | None = None) -> Exported:
    """Write the checkpoint as a folder for `AutoModelForCausalLM` and `AutoTokenizer`, with a model card.

    Args:
        dtype: of the exported weights; None keeps theirs.

    Raises:
        CheckpointError: the output exists, transformers would compute the model wrongly, or the parity check fails.
        EnvironmentFailure: the disk is full.
    """
    output = Path(output)
    if output.exists():
        raise CheckpointError(f"{output} already exists; name another folder or remove it")
    source = checkpoint_folder(checkpoint)
    model, tokenizer = load(source, dtype=dtype)
    temporary = output.with_name(f".tmp-{output.name}-export-{os.getpid()}")
    try:
        save_transformers(model, model.config, source, temporary, native=True)
        parity = check_parity(model.float(), tokenizer, temporary)
        mismatch = _mismatch(temporary)
        facts = [parity.sentence(), *([mismatch.sentence()] if mismatch else [])]
        config = json.loads((temporary / "config.json").read_text(encoding="utf-8"))
        card = model_card(output.name, model.num_parameters(), config, read_run(source), facts)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        temporary.rename(output)
    except OSError as error:
        raise from_os_error(error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(output, model.num_parameters(), parity, mismatch)


def _mismatch(folder: Path) -> Mismatch | None:
    file = folder / MISMATCH_FILE
    return Mismatch(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else None
