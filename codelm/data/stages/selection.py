"""Which documents go where: near duplicates are compared, and the decision is kept for the stages after."""

import functools
import shutil

from codelm.config.data import DataConfig
from codelm.data.columns import load_columns
from codelm.data.dedup.near_duplicates import Comparison, cluster_documents, find_signatures, least_equal
from codelm.data.documents import Counts
from codelm.data.engines.local import Engine, whole_folder
from codelm.data.select import Selection, select
from codelm.data.stages.documents import load_findings
from codelm.data.stages.places import documents_folder
from codelm.data.stages.progress import COMPARING, Progress
from codelm.data.store import read_json, write_json
from codelm.data.workspace import Workspace, settings_of
from codelm.errors import DataError

_DECIDING = ("seed", "split", "dedup", "max_bytes_per_language", "tokenizer")
"""The settings that the selection depends on, besides those of the documents."""


def select_stage(
    space: Workspace, config: DataConfig, partitions: list[int], engine: Engine, counts: Counts, progress: Progress
) -> Selection:
    """Decide which documents go where; the decision is kept, and made anew when its settings changed since."""
    folder, settings = space.work / "selection", {key: settings_of(config)[key] for key in _DECIDING}
    if folder.exists() and read_json(folder / "settings.json") != settings:
        shutil.rmtree(folder)
    if not folder.exists():
        documents = [documents_folder(space, index) for index in range(len(partitions))]
        clusters, alike = None, None
        if config.dedup.near is not None and documents:
            signatures = find_signatures(space.work / "documents", len(documents))
            alike = Comparison(signatures, least_equal(config.dedup.near))
            clusters = cluster_documents(
                signatures,
                config.dedup.near,
                space.work / "near",
                space.scratch,
                engine,
                progress=functools.partial(progress, COMPARING),
            )
        columns, start = load_columns(documents)
        dropped = Counts()
        selection = select(columns, start, clusters, config, dropped, alike)
        with whole_folder(folder, space.scratch) as filling:
            selection.save(filling)
            write_json(settings, filling / "settings.json")
            write_json(dropped.save(), filling / "dropped.json")
    counts.add(load_findings(space, len(partitions)).dropped.save())
    counts.add(read_json(folder / "dropped.json"))
    return Selection.load(folder)


def load_selection(space: Workspace) -> Selection:
    """Raises DataError: when the stage `select` has not ended."""
    if not (space.work / "selection").exists() or not space.tokenizer.exists():
        raise DataError(f"{space.output}: the stage select has not ended; run it first (`--stage select`)")
    return Selection.load(space.work / "selection")
