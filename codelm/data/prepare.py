"""Code in, shards out: the stages of preparing a corpus, in order. Each can be killed at any moment and run again.

    list files → read and clean → select (copies, split, limits) → train the tokenizer → tokenise → pack → manifest

What a stage leaves is whole or absent (`engine.whole_folder`), so running the same command again continues with the
first thing that is missing, and the result is the same to the byte, whatever the engine and the number of workers.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from codelm.config.data import DataConfig
from codelm.data.documents import Counts
from codelm.data.engines.local import Engine, LocalEngine, ShardEngine
from codelm.data.engines.ray_engine import RayEngine
from codelm.data.manifest import Manifest, save_manifest
from codelm.data.report.page import write_report
from codelm.data.select import LEFT_OUT, TRAIN, Selection
from codelm.data.stages.documents import list_stage, read_stage
from codelm.data.stages.places import require
from codelm.data.stages.progress import Progress
from codelm.data.stages.rows import build_manifest, pack_stage
from codelm.data.stages.selection import load_selection, select_stage
from codelm.data.stages.tokens import tokenise_stage, tokenizer_stage
from codelm.data.store import PARTITION_BYTES
from codelm.data.workspace import Workspace, cpu_count, discard, find_finished, opened
from codelm.errors import DataError
from codelm.tokenizer import Tokenizer, load_tokenizer

Stage = Literal["list", "read", "select", "tokenise", "pack"]
STAGES: tuple[Stage, ...] = ("list", "read", "select", "tokenise", "pack")
IN_SHARDS: tuple[Stage, ...] = ("read", "tokenise", "pack")
"""The stages that many processes can share; of the others one process does all."""


def silent(stage: str, done: int, total: int | None) -> None:
    """Reports no progress."""


@dataclass(frozen=True)
class Prepared:
    """A finished corpus; `reused` when it was there already."""

    manifest: Manifest
    folder: Path
    reused: bool


def prepare(config: DataConfig, progress: Progress = silent, partition_bytes: int = PARTITION_BYTES) -> Prepared:
    """Prepare the corpus of a configuration, or continue, or find it finished.

    `partition_bytes` is the size of the units of work; the result does not depend on it, but for
    `context.by_repository`, which joins files within a unit.

    Raises:
        DataError: when a source is absent, nothing is kept, or the output folder holds something else.
        TokenizerError: when the tokenizer cannot be loaded or trained.
        EnvironmentFailure, OSError: when the machine fails; the next run continues.
    """
    folder = Path(config.output_folder)
    finished = find_finished(config)
    if finished is not None:
        return Prepared(finished, folder, reused=True)
    given = _given_tokenizer(config)
    try:
        with opened(config) as space, engine_of(config) as engine:
            selection, counts = _select(space, config, engine, partition_bytes, progress)
            tokenizer = tokenizer_stage(space, config, given, selection, progress)
            tokenise_stage(space, config, selection, engine, progress)
            pack_stage(space, config, selection, tokenizer, engine, progress)
            manifest = build_manifest(space, config, selection, tokenizer, counts)
            write_report(folder, manifest, tokenizer)
            save_manifest(manifest, folder)
            shutil.rmtree(space.work)
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise
    return Prepared(manifest, folder, reused=False)


def prepare_stage(
    config: DataConfig,
    stage: Stage,
    shard: int,
    shards: int,
    progress: Progress = silent,
    partition_bytes: int = PARTITION_BYTES,
) -> None:
    """One stage, or the part of it with number `shard` of `shards`, as a job of a cluster; `prepare` does the rest.

    Stages follow one another in the order of STAGES, each when all parts of the one before have ended. The stage
    `list` makes the partitions.

    Raises:
        DataError: when a part of an earlier stage is missing; and as `prepare`.
    """
    if find_finished(config) is not None:
        return
    given = _given_tokenizer(config)
    in_shards = stage in IN_SHARDS
    with opened(config, shared=in_shards) as space, ShardEngine(shard, shards, cpu_count()) as engine:
        if stage == "list":
            list_stage(space, config, partition_bytes, Counts(), progress)
        elif stage == "read":
            read_stage(space, config, require(space, "plan"), engine, progress)
        elif stage == "select":
            require(space, "documents")
            with LocalEngine(cpu_count()) as local:
                selection, _ = _select(space, config, local, partition_bytes, progress)
            tokenizer_stage(space, config, given, selection, progress)
        elif stage == "tokenise":
            tokenise_stage(space, config, load_selection(space), engine, progress)
        else:
            require(space, "tokens")
            tokenizer = load_tokenizer(space.tokenizer)
            pack_stage(space, config, load_selection(space), tokenizer, engine, progress)


def prepare_tokenizer(config: DataConfig, progress: Progress = silent) -> Tokenizer:
    """The stages up to the tokenizer; `prepare` with the same configuration continues from there.

    Raises:
        as `prepare`.
    """
    if find_finished(config) is None:
        given = _given_tokenizer(config)
        with opened(config) as space, engine_of(config) as engine:
            selection, _ = _select(space, config, engine, PARTITION_BYTES, progress)
            return tokenizer_stage(space, config, given, selection, progress)
    return load_tokenizer(Workspace(Path(config.output_folder)).tokenizer)


def engine_of(config: DataConfig) -> Engine:
    """What the stages of a whole preparation are run by; `slurm` is for jobs (`prepare_stage`), not for this.

    Raises:
        EnvironmentFailure: when Ray is asked for and not installed.
    """
    if config.engine == "ray":
        return RayEngine(config.num_workers)
    return LocalEngine(config.num_workers or cpu_count())


def _given_tokenizer(config: DataConfig) -> Tokenizer | None:
    return load_tokenizer(config.tokenizer.path) if config.tokenizer.path is not None else None


def _select(
    space: Workspace, config: DataConfig, engine: Engine, partition_bytes: int, progress: Progress
) -> tuple[Selection, Counts]:
    """List, read and clean the files, and decide which documents go where."""
    counts = Counts()
    try:
        partitions = list_stage(space, config, partition_bytes, counts, progress)
        read_stage(space, config, partitions, engine, progress)
        selection = select_stage(space, config, partitions, engine, counts, progress)
        refuse_empty(selection, counts, config)
    except DataError:
        discard(space)
        raise
    return selection, counts


def refuse_empty(selection: Selection, counts: Counts, config: DataConfig) -> None:
    """Raises DataError: when nothing is left to train on, with the reasons."""
    if (selection.split == TRAIN).any():
        return
    reasons: dict[str, int] = {}
    for dropped in counts.dropped.values():
        for reason, files in dropped.items():
            reasons[reason] = reasons.get(reason, 0) + files
    most = sorted(reasons.items(), key=lambda item: -item[1])[:4]
    why = ", ".join(f"{reason} {files:,}" for reason, files in most) or "no files found"
    held = int((selection.split != LEFT_OUT).sum())
    kept = f", {held} held out" if held else ""
    raise DataError(
        f"the corpus is empty: no file of the sources {', '.join(config.sources)} is left for training"
        f" ({why}{kept}); check the sources' paths, `languages` and `filters`"
    )
