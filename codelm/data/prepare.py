"""Code in, shards out: the stages of preparing a corpus, in order. Each can be killed at any moment and run again.

    list files → read and filter → select (duplicates, limits, split) → train the tokenizer → tokenise → pack → manifest

What a stage leaves is whole or absent (`engine.whole_folder`), so running the same command again continues with the
first thing that is missing, and the result is the same to the byte, whatever the number of workers.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import codelm
from codelm.config.data import DataConfig, FiltersSection
from codelm.data.documents import Counts
from codelm.data.engine import LocalEngine, whole_folder
from codelm.data.manifest import Manifest, StreamInfo, save_manifest
from codelm.data.pack import PackTask, load_summary, pack_stream
from codelm.data.select import LEFT_OUT, SPLITS, Selection, select
from codelm.data.shards import token_dtype
from codelm.data.sources import list_files, read_documents
from codelm.data.store import (
    PARTITION_BYTES,
    DocumentWriter,
    Plan,
    Record,
    load_plan,
    partition,
    plan_bytes,
    read_json,
    read_records,
    read_texts,
    record_of,
    save_plan,
    write_json,
)
from codelm.data.tokenise import TokeniseTask, tokenise_partition
from codelm.data.workspace import Workspace, cpu_count, discard, find_finished, opened, settings_of
from codelm.errors import DataError, TokenizerError
from codelm.tokenizer import Tokenizer, load_tokenizer, train_tokenizer

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]
"""Called with a stage's name, the bytes done (files, when listing) and their total (None when unknown)."""

LISTING, READING, TRAINING, TOKENISING, PACKING = "list files", "filter", "train tokenizer", "tokenise", "pack"


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
            return _tokenizer(space, config, given, selection, engine, progress)
    return load_tokenizer(Workspace(Path(config.output_folder)).tokenizer)


def _select(
    space: Workspace, config: DataConfig, engine: LocalEngine, partition_bytes: int, progress: Progress
) -> tuple[Selection, Counts]:
    """List, read and filter the files, and decide which documents go where."""
    counts = Counts()
    try:
        partitions = _list(space, config, partition_bytes, counts, progress)
        _read(space, config, partitions, engine, counts, progress)
        records = (read_records(_documents(space, index)) for index in range(len(partitions)))
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
    tokenizer = _tokenizer(space, config, given, selection, engine, progress)
    _tokenise(space, selection, engine, progress)
    return Manifest(
        run_name=config.run_name,
        codelm_version=codelm.__version__,
        settings=settings_of(config),
        max_seq_len=config.max_seq_len,
        dtype=token_dtype(tokenizer.vocab_size).name,
        tokenizer=tokenizer.fingerprint(),
        splits=_pack(space, config, selection, tokenizer, engine, progress),
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
    plans = partition(_reporting(list_files(config, counts), progress))
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


def _reporting(files: Iterator[Any], progress: Progress) -> Iterator[Any]:
    number = 0
    for number, file in enumerate(files, 1):
        if number % 1000 == 0:
            progress(LISTING, number, None)
        yield file
    progress(LISTING, number, number)


def _list(space: Workspace, config: DataConfig, partition_bytes: int, counts: Counts, progress: Progress) -> list[int]:
    """Write the plan of every partition; returns their sizes in bytes of candidate files."""
    folder = space.work / "plan"
    if not folder.exists():
        scanned = Counts()
        sizes = []
        with whole_folder(folder, space.scratch) as filling:
            files = _reporting(list_files(config, scanned), progress)
            for index, plan in enumerate(partition(files, partition_bytes)):
                save_plan(plan, filling / f"{index:05}.json")
                sizes.append(plan_bytes(plan))
            write_json({"sizes": sizes, "dropped": scanned.to_dict()}, filling / "summary.json")
    summary = read_json(folder / "summary.json")
    counts.add(summary["dropped"])
    return summary["sizes"]


def _documents(space: Workspace, index: int) -> Path:
    return space.work / "documents" / f"{index:05}"


def _tokens(space: Workspace, index: int) -> Path:
    return space.work / "tokens" / f"{index:05}"


@dataclass(frozen=True)
class _ReadTask:
    plan: Path
    output: Path
    scratch: Path
    filters: FiltersSection


def _read_partition(task: _ReadTask) -> None:
    if task.output.exists():
        return
    counts = Counts()
    with whole_folder(task.output, task.scratch) as folder:
        writer = DocumentWriter(folder)
        for repository, files in load_plan(task.plan):
            for _, document in read_documents(repository, files, task.filters, counts):
                if document is not None:
                    writer.write(document)
        writer.close()
        write_json(counts.to_dict(), folder / "dropped.json")


def _read(
    space: Workspace, config: DataConfig, partitions: list[int], engine: LocalEngine, counts: Counts, progress: Progress
) -> None:
    """Read and filter every partition's files into documents."""
    tasks = [
        _ReadTask(space.work / "plan" / f"{index:05}.json", _documents(space, index), space.scratch, config.filters)
        for index in range(len(partitions))
    ]
    done = 0
    for size, _ in zip(partitions, engine.run(_read_partition, tasks), strict=True):
        done += size
        progress(READING, done, sum(partitions))
    for task in tasks:
        counts.add(read_json(task.output / "dropped.json"))


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


@dataclass(frozen=True)
class _TrainTask:
    documents: tuple[tuple[Path, list[bool]], ...]
    vocab_size: int
    max_sentence_length: int
    output: Path
    scratch: Path


def _train_tokenizer(task: _TrainTask) -> None:
    texts = (text for folder, wanted in task.documents for _, text in read_texts(folder, wanted))
    with whole_folder(task.output, task.scratch) as folder:
        train_tokenizer(texts, task.vocab_size, folder, task.max_sentence_length)


def _tokenizer(
    space: Workspace,
    config: DataConfig,
    given: Tokenizer | None,
    selection: Selection,
    engine: LocalEngine,
    progress: Progress,
) -> Tokenizer:
    """The tokenizer beside the shards: trained on the training split, or a copy of the given one."""
    settings = config.tokenizer.train
    if not space.tokenizer.exists():
        if given is not None:
            with whole_folder(space.tokenizer, space.scratch) as folder:
                given.save(folder)
        elif settings is not None:
            sample = selection.for_tokenizer
            total = int(selection.bytes[sample].sum())
            progress(TRAINING, 0, total)
            chosen = [
                (_documents(space, index), sample[selection.of_partition(index)].tolist())
                for index in range(len(selection.partition_start) - 1)
            ]
            task = _TrainTask(
                tuple(chosen), settings.vocab_size, settings.max_sentence_length, space.tokenizer, space.scratch
            )
            list(engine.run(_train_tokenizer, [task]))
            progress(TRAINING, total, total)
    tokenizer = load_tokenizer(space.tokenizer)
    if given is not None and not tokenizer.fingerprint().matches(given.fingerprint()):
        raise TokenizerError(
            f"the tokenizer at {config.tokenizer.path} changed since {space.output} was begun"
            f" ({given.fingerprint().difference(tokenizer.fingerprint())}); restore it, or delete the output folder"
        )
    if not tokenizer.lossless:
        logger.warning("the tokenizer at %s does not bring every text back exactly", config.tokenizer.path)
    return tokenizer


def _tokenise(space: Workspace, selection: Selection, engine: LocalEngine, progress: Progress) -> None:
    tasks = [
        TokeniseTask(
            documents=_documents(space, index),
            output=_tokens(space, index),
            tokenizer=space.tokenizer,
            scratch=space.scratch,
            split=selection.split[selection.of_partition(index)],
        )
        for index in range(len(selection.partition_start) - 1)
    ]
    kept = selection.split != LEFT_OUT
    total, done = int(selection.bytes[kept].sum()), 0
    for index, _ in enumerate(engine.run(tokenise_partition, tasks)):
        part = selection.of_partition(index)
        done += int(selection.bytes[part][kept[part]].sum())
        progress(TOKENISING, done, total)


def _pack(
    space: Workspace,
    config: DataConfig,
    selection: Selection,
    tokenizer: Tokenizer,
    engine: LocalEngine,
    progress: Progress,
) -> dict[str, dict[str, StreamInfo]]:
    """Write the shards of every split and language; returns the manifest's figures."""
    sizes = {
        (split, language): size for split in SPLITS for language, (_, size) in selection.files_and_bytes(split).items()
    }
    (space.work / "packed").mkdir(exist_ok=True)
    tokens = tuple(_tokens(space, index) for index in range(len(selection.partition_start) - 1))
    first = PackTask(
        name="",
        tokens=tokens,
        output=space.output,
        summary=space.work,
        scratch=space.scratch,
        max_seq_len=config.max_seq_len,
        dtype=token_dtype(tokenizer.vocab_size).name,
        shard_bytes=config.shard_bytes,
    )
    tasks = [
        replace(
            first,
            name=f"{split}.{language}",
            output=space.output / split / language,
            summary=space.work / "packed" / f"{split}.{language}.json",
        )
        for split, language in sizes
    ]
    done, splits = 0, {split: {} for split in SPLITS}
    for (split, language), task, _ in zip(sizes, tasks, engine.run(pack_stream, tasks), strict=True):
        splits[split][language] = load_summary(task.summary)
        done += sizes[split, language]
        progress(PACKING, done, sum(sizes.values()))
    return splits
