"""What an export starts from: a checkpoint, its record, its lineage and its scores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.export.card import read_run
from codelm.model.lineage import REPLIT, Ancestor, ancestors, lineage
from codelm.model.pretrained import checkpoint_folder


@dataclass(frozen=True)
class Source:
    """A checkpoint to export.

    Attributes:
        name: what the exported model is called.
        run: the content of run.json, if there is one.
        lineage: what its weights and vocabulary come from, the nearest first.
        evaluation: the output folder of an evaluation to show, if one was named.
    """

    folder: Path
    name: str
    run: dict[str, Any] | None
    lineage: list[Ancestor]
    evaluation: Path | None = None

    def itself(self) -> list[Ancestor]:
        """The lineage of what is made from the export."""
        if self.run is None:
            return self.lineage
        return [Ancestor(f"{self.run['config']['run_name']} ({self.folder.resolve().name})"), *self.lineage]


def find_source(checkpoint: str | Path, name: str, base: str | None = None, evaluation: Path | None = None) -> Source:
    """The checkpoint at a path or hub id, with what is recorded of it.

    Args:
        base: a model that it descends from and that no record names.

    Raises:
        CheckpointError, EnvironmentFailure: there is none.
    """
    folder = checkpoint_folder(checkpoint)
    run = read_run(folder)
    found = ancestors(folder)
    known = {ancestor.name for ancestor in found}
    if run is None and not found:
        # A model that was made elsewhere is itself what the export is made from.
        found = lineage(checkpoint)
    if base is not None and base not in known:
        found = [*found, *lineage(base)]
    if REPLIT in str(checkpoint) and REPLIT not in known:
        found = lineage(checkpoint)
    return Source(folder, name, run, found, evaluation)
