"""Code in, shards out: the stages of preparing a corpus, in order. Each can be killed at any moment and run again.

    list files → read and filter → select (duplicates, limits, split) → train the tokenizer → tokenise → pack → manifest

What a stage leaves is whole or absent (`engine.whole_folder`), so running the same command again continues with the
first thing that is missing, and the result is the same to the byte, whatever the number of workers.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import codelm
from codelm.config.cleaning import FiltersSection
from codelm.config.data import DataConfig
from codelm.data.documents import Counts
from codelm.data.engine import LocalEngine
from codelm.data.manifest import Manifest, save_manifest
from codelm.data.select import SPLITS, Selection, select
from codelm.data.shards import token_dtype
from codelm.data.sources import list_files, read_documents
from codelm.data.stages import (
    READING,
    Progress,
    documents_folder,
    list_stage,
    pack_stage,
    read_stage,
    reporting,
    tokenise_stage,
    tokenizer_stage,
)
from codelm.data.store import PARTITION_BYTES, Plan, Record, partition, plan_bytes, read_records, record_of
from codelm.data.workspace import Workspace, cpu_count, discard, find_finished, opened, settings_of
from codelm.errors import DataError
from codelm.tokenizer import Tokenizer, load_tokenizer


def _silent(stage: str, done: int, total: int | None) -> None:
    pass


@dataclass(frozen=True)
class Prepared:
    """A finished corpus; `reused` when it was there already."""

    manifest: Manifest
    folder: Path
    reused: bool


@dataclass(frozen=True)
class Survey:
    """What a preparation would keep and drop: files and bytes by split and language, drops by language and reason."""

    kept: dict[str, dict[str, tuple[int, int]]]
    dropped: dict[str, dict[str, int]]


def prepare(config: DataConfig, progress: Progress = _silent, partition_bytes: int = PARTITION_BYTES) -> Prepared:
    """Prepare the corpus of a configuration, or continue, or find it finished.

    `partition_bytes` is the size of the units of work; the result does not depend on it.

    Raises:
        DataError: when a source is absent, nothing is kept, or the output folder holds something else.
        TokenizerError: when the tokenizer cannot be loaded or trained.
        EnvironmentFailure, OSError: when the machine fails; the next run continues.
    """
    folder = Path(config.output_folder)
    finished = find_finished(config)
    if finished is not None:
        return Prepared(finished, folder, reused=True)
    given = load_tokenizer(config.tokenizer.path) if config.tokenizer.path is not None else None
    try:
        with opened(config) as space, LocalEngine(config.num_workers or cpu_count()) as engine:
            manifest = _prepare(space, config, given, engine, partition_bytes, progress)
            save_manifest(manifest, folder)
            shutil.rmtree(space.work)
    except OSError as error:
        error.filename = error.filename or str(folder)
        raise
    return Prepared(manifest, folder, reused=False)


def prepare_tokenizer(config: DataConfig, progress: Progress = _silent) -> Tokenizer:
    """The stages up to the tokenizer; `prepare` with the same configuration continues from there.

    Raises:
        as `prepare`.
    """
    if find_finished(config) is None:
        given = load_tokenizer(config.tokenizer.path) if config.tokenizer.path is not None else None
        with opened(config) as space, LocalEngine(config.num_workers or cpu_count()) as engine:
            selection, _ = _select(space, config, engine, PARTITION_BYTES, progress)
            return tokenizer_stage(space, config, given, selection, engine, progress)
    return load_tokenizer(Workspace(Path(config.output_folder)).tokenizer)


def _select(
    space: Workspace, config: DataConfig, engine: LocalEngine, partition_bytes: int, progress: Progress
) -> tuple[Selection, Counts]:
    """List, read and filter the files, and decide which documents go where."""
    counts = Counts()
    try:
        partitions = list_stage(space, config, partition_bytes, counts, progress)
        read_stage(space, config, partitions, engine, counts, progress)
        records = (read_records(documents_folder(space, index)) for index in range(len(partitions)))
        selection = select(records, config, counts)
        _refuse_empty(selection, counts, config)
    except DataError:
        discard(space)
        raise
    return selection, counts


def _prepare(
    space: Workspace,
    config: DataConfig,
    given: Tokenizer | None,
    engine: LocalEngine,
    partition_bytes: int,
    progress: Progress,
) -> Manifest:
    """The stages in order."""
    selection, counts = _select(space, config, engine, partition_bytes, progress)
    tokenizer = tokenizer_stage(space, config, given, selection, engine, progress)
    tokenise_stage(space, selection, engine, progress)
    splits = pack_stage(space, config, selection, tokenizer, engine, progress)
    if not any(stream.samples for stream in splits["train"].values()):
        raise DataError(
            f"no language has {config.max_seq_len} tokens to train on, not one sample; add sources or lower"
            f" max_seq_len, and give another output_folder or delete {config.output_folder}"
        )
    return Manifest(
        run_name=config.run_name,
        codelm_version=codelm.__version__,
        settings=settings_of(config),
        max_seq_len=config.max_seq_len,
        dtype=token_dtype(tokenizer.vocab_size).name,
        tokenizer=tokenizer.fingerprint(),
        splits=splits,
        dropped=counts.to_dict(),
    )


def survey(config: DataConfig, progress: Progress = _silent) -> Survey:
    """What `prepare` would keep and drop; writes nothing.

    Raises:
        DataError: when a source is absent, nothing is kept, or the output folder holds something else.
    """
    find_finished(config)
    if config.tokenizer.path is not None:
        load_tokenizer(config.tokenizer.path)
    counts = Counts()
    plans = partition(reporting(list_files(config, counts), progress))
    with LocalEngine(config.num_workers or cpu_count()) as engine:
        found = engine.run(partial(_inspect, filters=config.filters), plans)

        def records() -> Iterator[list[Record]]:
            done = 0
            for size, kept, dropped in found:
                done += size
                progress(READING, done, None)
                counts.add(dropped)
                yield kept

        selection = select(records(), config, counts)
    _refuse_empty(selection, counts, config)
    return Survey({split: selection.files_and_bytes(split) for split in SPLITS}, counts.to_dict())


def _inspect(plan: Plan, filters: FiltersSection) -> tuple[int, list[Record], dict[str, dict[str, int]]]:
    counts = Counts()
    kept = [
        record_of(document, len(document.text.encode()))
        for repository, files in plan
        for _, document in read_documents(repository, files, filters, counts)
        if document is not None
    ]
    return plan_bytes(plan), kept, counts.to_dict()


def _refuse_empty(selection: Selection, counts: Counts, config: DataConfig) -> None:
    if (selection.split == SPLITS.index("train")).any():
        return
    reasons: dict[str, int] = {}
    for dropped in counts.dropped.values():
        for reason, files in dropped.items():
            reasons[reason] = reasons.get(reason, 0) + files
    most = sorted(reasons.items(), key=lambda item: -item[1])[:4]
    why = ", ".join(f"{reason} {files:,}" for reason, files in most) or "no files found"
    held = int((selection.split == SPLITS.index("validation")).sum())
    kept = f", {held} held out for validation" if held else ""
    raise DataError(
        f"the corpus is empty: no file of the sources {', '.join(config.sources)} is left for training"
        f" ({why}{kept}); check the sources' paths, `languages` and `filters`"
    )
