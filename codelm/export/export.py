"""Export a checkpoint in one format or several: written aside, checked against its source, then published."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from codelm.errors import CheckpointError, from_os_error
from codelm.export.gguf_folder import write_gguf_folder
from codelm.export.source import find_source
from codelm.export.transformers_folder import write_transformers_folder

FORMATS = ("transformers", "gguf")


@dataclass(frozen=True)
class Exported:
    """What `export` wrote and measured."""

    folder: Path
    measured: dict[str, list[str]]
    """By format, a sentence each."""


def export(
    checkpoint: str | Path,
    output: str | Path,
    formats: tuple[str, ...] = ("transformers",),
    dtype: torch.dtype | None = None,
    gguf_type: str = "f16",
    fim: bool | None = None,
    base: str | None = None,
    evaluation: Path | None = None,
) -> Exported:
    """Write a checkpoint into a new folder; several formats go into a folder each below it.

    Args:
        dtype: of the weights for transformers; None keeps theirs.
        gguf_type: of the weights for GGUF, f16 or q8_0.
        fim: the model was trained to fill gaps; None takes what its run recorded.
        base: a model that the checkpoint descends from and that no record names.
        evaluation: the output folder of an evaluation to show in the card; None looks near the checkpoint.

    Raises:
        CheckpointError: the output exists, a format would compute the model wrongly, or a parity check fails.
        EvaluationError: `evaluation` is none, or of other weights.
        EnvironmentFailure: the disk is full, or a package is absent; nothing is left behind.
    """
    output = Path(output)
    if output.exists():
        raise CheckpointError(f"{output} already exists; name another folder or remove it")
    source = find_source(checkpoint, output.resolve().name, base, evaluation)
    temporary = output.with_name(f".tmp-{output.name}-export-{os.getpid()}")
    measured = {}
    try:
        for name in formats:
            folder = temporary / name if len(formats) > 1 else temporary
            if name == "gguf":
                measured[name] = write_gguf_folder(source, folder, gguf_type, fim)
            else:
                measured[name] = write_transformers_folder(source, folder, dtype)
        temporary.rename(output)
    except OSError as error:
        raise from_os_error(error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Exported(output, measured)
