"""The stages of preparing a corpus: each hands its tasks to the engine, and what it leaves is whole or absent.

A stage whose output is there already does nothing, so that a run which was killed continues where it stopped.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codelm.config.cleaning import FiltersSection
from codelm.config.data import DataConfig
from codelm.data.documents import Counts
from codelm.data.engine import LocalEngine, whole_folder
from codelm.data.manifest import StreamInfo
from codelm.data.pack import PackTask, load_summary, pack_stream
from codelm.data.select import LEFT_OUT, SPLITS, Selection
from codelm.data.shards import token_dtype
from codelm.data.sources import list_files, read_documents
from codelm.data.store import (
    DocumentWriter,
    load_plan,
    partition,
    plan_bytes,
    read_json,
    read_texts,
    save_plan,
    write_json,
)
from codelm.data.tokenise import TokeniseTask, tokenise_partition
from codelm.data.workspace import Workspace
from codelm.errors import TokenizerError
from codelm.tokenizer import Tokenizer, load_tokenizer
from codelm.tokenizer_training import train_tokenizer

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]
"""Called with a stage's name, the bytes done (files, when listing) and their total (None when unknown)."""

LISTING, READING, TRAINING, TOKENISING, PACKING = "list files", "filter", "train tokenizer", "tokenise", "pack"


def reporting(files: Iterator[Any], progress: Progress) -> Iterator[Any]:
    """The files, while their number is reported."""
    number = 0
    for number, file in enumerate(files, 1):
        if number % 1000 == 0:
            progress(LISTING, number, None)
        yield file
    progress(LISTING, number, number)


def list_stage(
    space: Workspace, config: DataConfig, partition_bytes: int, counts: Counts, progress: Progress
) -> list[int]:
    """Write the plan of every partition; returns their sizes in bytes of candidate files."""
    folder = space.work / "plan"
    if not folder.exists():
        scanned = Counts()
        sizes = []
        with whole_folder(folder, space.scratch) as filling:
            files = reporting(list_files(config, scanned), progress)
            for index, plan in enumerate(partition(files, partition_bytes)):
                save_plan(plan, filling / f"{index:05}.json")
                sizes.append(plan_bytes(plan))
            write_json({"sizes": sizes, "dropped": scanned.to_dict()}, filling / "summary.json")
    summary = read_json(folder / "summary.json")
    counts.add(summary["dropped"])
    return summary["sizes"]


def documents_folder(space: Workspace, index: int) -> Path:
    """Where the documents of a partition are."""
    return space.work / "documents" / f"{index:05}"


def _tokens_folder(space: Workspace, index: int) -> Path:
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


def read_stage(
    space: Workspace, config: DataConfig, partitions: list[int], engine: LocalEngine, counts: Counts, progress: Progress
) -> None:
    """Read and filter every partition's files into documents."""
    tasks = [
        _ReadTask(
            space.work / "plan" / f"{index:05}.json", documents_folder(space, index), space.scratch, config.filters
        )
        for index in range(len(partitions))
    ]
    done = 0
    progress(READING, done, sum(partitions))
    for size, _ in zip(partitions, engine.run(_read_partition, tasks), strict=True):
        done += size
        progress(READING, done, sum(partitions))
    for task in tasks:
        counts.add(read_json(task.output / "dropped.json"))


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


def tokenizer_stage(
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
                (documents_folder(space, index), sample[selection.of_partition(index)].tolist())
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


def tokenise_stage(space: Workspace, selection: Selection, engine: LocalEngine, progress: Progress) -> None:
    """Write the token ids of every partition's selected documents."""
    tasks = [
        TokeniseTask(
            documents=documents_folder(space, index),
            output=_tokens_folder(space, index),
            tokenizer=space.tokenizer,
            scratch=space.scratch,
            split=selection.split[selection.of_partition(index)],
        )
        for index in range(len(selection.partition_start) - 1)
    ]
    kept = selection.split != LEFT_OUT
    total, done = int(selection.bytes[kept].sum()), 0
    progress(TOKENISING, done, total)
    for index, _ in enumerate(engine.run(tokenise_partition, tasks)):
        part = selection.of_partition(index)
        done += int(selection.bytes[part][kept[part]].sum())
        progress(TOKENISING, done, total)


def pack_stage(
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
    tokens = tuple(_tokens_folder(space, index) for index in range(len(selection.partition_start) - 1))
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
    progress(PACKING, done, sum(sizes.values()))
    for (split, language), task, _ in zip(sizes, tasks, engine.run(pack_stream, tasks), strict=True):
        splits[split][language] = load_summary(task.summary)
        done += sizes[split, language]
        progress(PACKING, done, sum(sizes.values()))
    return splits
