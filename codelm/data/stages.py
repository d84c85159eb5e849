"""The stages of preparing a corpus: each hands its tasks to the engine, and what it leaves is whole or absent.

A stage whose output is there already does nothing, so that a run which was killed continues where it stopped.
"""

import functools
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

import codelm
from codelm.config.data import DataConfig
from codelm.data.clean import Cleaner, Findings, rank_of
from codelm.data.columns import ColumnsWriter, load_columns
from codelm.data.dedup.minhash import Signer
from codelm.data.dedup.near_duplicates import (
    SIGNATURES_FILE,
    Comparison,
    cluster_documents,
    find_signatures,
    least_equal,
)
from codelm.data.documents import Counts, Document
from codelm.data.engines.local import Engine, whole_folder
from codelm.data.manifest import Manifest
from codelm.data.packing.pack import PackTask, load_summary, pack_stream
from codelm.data.packing.tokenise import TokeniseTask, tokenise_partition
from codelm.data.select import LEFT_OUT, SPLITS, Selection, select
from codelm.data.shards import token_dtype
from codelm.data.sources.dispatch import list_files, read_documents
from codelm.data.store import (
    DocumentWriter,
    Plan,
    load_plan,
    partition,
    plan_bytes,
    read_json,
    read_texts,
    save_plan,
    write_json,
)
from codelm.data.workspace import Workspace, settings_of
from codelm.errors import DataError, TokenizerError
from codelm.languages import INSTRUCTIONS
from codelm.tokenizer import Tokenizer, load_tokenizer
from codelm.tokenizer_training import train_tokenizer

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], None]
"""Called with a stage's name, the bytes done (files when listing, steps when comparing) and their total (None when
unknown)."""

LISTING, READING, COMPARING = "list files", "clean", "near duplicates"
TRAINING, TOKENISING, PACKING = "train tokenizer", "tokenise", "pack"

_DECIDING = ("seed", "split", "dedup", "max_bytes_per_language", "tokenizer")
"""The settings that the selection depends on, besides those of the documents."""


def documents_folder(space: Workspace, index: int) -> Path:
    """Where the documents of a partition are."""
    return space.work / "documents" / f"{index:05}"


def _tokens_folder(space: Workspace, index: int) -> Path:
    return space.work / "tokens" / f"{index:05}"


def _summary(space: Workspace, split: str, language: str) -> Path:
    return space.work / "packed" / f"{split}.{language}.json"


def require(space: Workspace, what: Literal["plan", "documents", "tokens"]) -> list[int]:
    """The sizes of all partitions in bytes of candidate files, when `what` is there of every one.

    Raises:
        DataError: when a job that should have made it is not done.
    """
    summary = space.work / "plan" / "summary.json"
    if not summary.exists():
        raise DataError(f"{space.output}: the stage list has not ended; run it first (`--stage list`)")
    sizes = read_json(summary)["sizes"]
    stage = {"documents": "read", "tokens": "tokenise"}.get(what)
    missing = [index for index in range(len(sizes)) if stage and not (space.work / what / f"{index:05}").exists()]
    if missing:
        raise DataError(
            f"{space.output}: the stage {stage} has not ended, {len(missing)} of {len(sizes)} partitions are missing;"
            f" run its jobs again (`--stage {stage}`)"
        )
    return sizes


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


@dataclass(frozen=True)
class _ReadTask:
    plan: Path
    output: Path
    scratch: Path
    config: str
    """The configuration as JSON: what a worker makes of it is kept for its next tasks."""


@functools.lru_cache(maxsize=1)
def _cleaner(config: str) -> tuple[DataConfig, Cleaner]:
    parsed = DataConfig.model_validate_json(config)
    return parsed, Cleaner(parsed)


def clean_plan(plan: Plan, config: str, findings: Findings) -> Iterator[Document]:
    """The documents of a partition's files that are kept, cleaned; `config` is the configuration as JSON."""
    parsed, cleaner = _cleaner(config)
    for repository, files in plan:
        found = read_documents(
            repository,
            files,
            parsed.filters,
            findings.dropped,
            notebooks=parsed.notebooks,
            languages=parsed.languages,
            exclude_repositories=parsed.exclude_repositories,
        )
        for _, document in found:
            cleaned = cleaner.clean(document, findings) if document is not None else None
            if cleaned is not None:
                yield replace(cleaned, source=repository.source)


def add_row(columns: ColumnsWriter, document: Document, size: int) -> None:
    """The row of a document whose text has `size` bytes."""
    columns.add(
        document.digest, size, document.language, document.repository, document.changed, rank_of(document.licence)
    )


def _read_partition(task: _ReadTask) -> None:
    if task.output.exists():
        return
    config, _ = _cleaner(task.config)
    near = config.dedup.near
    findings, columns = Findings(), ColumnsWriter()
    signer = Signer(near) if near is not None else None
    with whole_folder(task.output, task.scratch) as folder:
        writer = DocumentWriter(folder)
        for document in clean_plan(load_plan(task.plan), task.config, findings):
            add_row(columns, document, writer.write(document))
            if signer is not None:
                # Conversations share templates, and are compared by their bytes alone.
                signer.add(document.text if document.language != INSTRUCTIONS else "")
        writer.close()
        columns.save(folder)
        if signer is not None:
            np.save(folder / SIGNATURES_FILE, signer.signatures())
        write_json(findings.to_dict(), folder / "findings.json")


def read_stage(space: Workspace, config: DataConfig, partitions: list[int], engine: Engine, progress: Progress) -> None:
    """Read and clean every partition's files into documents."""
    text = config.model_dump_json()
    _cleaner(text)  # a benchmark that cannot be read is refused here, not in a worker
    tasks = [
        _ReadTask(space.work / "plan" / f"{index:05}.json", documents_folder(space, index), space.scratch, text)
        for index in range(len(partitions))
    ]
    done = 0
    progress(READING, done, sum(partitions))
    for index in engine.each(_read_partition, tasks):
        done += partitions[index]
        progress(READING, done, sum(partitions))


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
            write_json(dropped.to_dict(), filling / "dropped.json")
    counts.add(load_findings(space, len(partitions)).dropped.to_dict())
    counts.add(read_json(folder / "dropped.json"))
    return Selection.load(folder)


def load_findings(space: Workspace, partitions: int) -> Findings:
    """What cleaning found in all partitions."""
    findings = Findings()
    for index in range(partitions):
        findings.merge(read_json(documents_folder(space, index) / "findings.json"))
    return findings


def load_selection(space: Workspace) -> Selection:
    """Raises DataError: when the stage `select` has not ended."""
    if not (space.work / "selection").exists() or not space.tokenizer.exists():
        raise DataError(f"{space.output}: the stage select has not ended; run it first (`--stage select`)")
    return Selection.load(space.work / "selection")


def tokenizer_stage(
    space: Workspace, config: DataConfig, given: Tokenizer | None, selection: Selection, progress: Progress
) -> Tokenizer:
    """The tokenizer beside the shards: trained on the training split, or a copy of the given one."""
    settings = config.tokenizer.train
    if not space.tokenizer.exists():
        with whole_folder(space.tokenizer, space.scratch) as folder:
            if given is not None:
                given.save(folder)
            elif settings is not None:
                total = int(selection.bytes[selection.for_tokenizer].sum())
                progress(TRAINING, 0, total)
                texts = _tokenizer_texts(space, selection)
                train_tokenizer(texts, settings.vocab_size, folder, settings.max_sentence_length)
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


def _tokenizer_texts(space: Workspace, selection: Selection) -> Iterable[str]:
    for index in range(selection.partitions):
        wanted = selection.for_tokenizer[selection.of_partition(index)].tolist()
        yield from (text for _, text in read_texts(documents_folder(space, index), wanted))


def tokenise_stage(
    space: Workspace, config: DataConfig, selection: Selection, engine: Engine, progress: Progress
) -> None:
    """Write the token ids of every partition's selected documents."""
    tasks = [
        TokeniseTask(
            documents=documents_folder(space, index),
            output=_tokens_folder(space, index),
            tokenizer=space.tokenizer,
            scratch=space.scratch,
            split=np.array(selection.split[selection.of_partition(index)]),
            context=config.context,
            seed=config.seed,
        )
        for index in range(selection.partitions)
    ]
    kept = selection.split != LEFT_OUT
    total, done = int(selection.bytes[kept].sum()), 0
    progress(TOKENISING, done, total)
    for index in engine.each(tokenise_partition, tasks):
        part = selection.of_partition(index)
        done += int(selection.bytes[part][kept[part]].sum())
        progress(TOKENISING, done, total)


def pack_stage(
    space: Workspace,
    config: DataConfig,
    selection: Selection,
    tokenizer: Tokenizer,
    engine: Engine,
    progress: Progress,
) -> None:
    """Write the shards of every split and language."""
    sizes = {
        (split, language): size for split in SPLITS for language, (_, size) in selection.files_and_bytes(split).items()
    }
    (space.work / "packed").mkdir(exist_ok=True)
    first = PackTask(
        name="",
        tokens=tuple(_tokens_folder(space, index) for index in range(selection.partitions)),
        output=space.output,
        summary=space.work,
        scratch=space.scratch,
        max_seq_len=config.max_seq_len,
        dtype=token_dtype(tokenizer.vocab_size).name,
        shard_bytes=config.shard_bytes,
        packing=config.packing,
        eos_id=tokenizer.eos_id,
    )
    tasks = [
        replace(
            first,
            name=f"{split}.{language}",
            output=space.output / split / language,
            summary=_summary(space, split, language),
        )
        for split, language in sizes
    ]
    done, streams = 0, list(sizes)
    progress(PACKING, done, sum(sizes.values()))
    for index in engine.each(pack_stream, tasks):
        done += sizes[streams[index]]
        progress(PACKING, done, sum(sizes.values()))


def build_manifest(
    space: Workspace, config: DataConfig, selection: Selection, tokenizer: Tokenizer, counts: Counts
) -> Manifest:
    """The manifest of what the stages left.

    Raises:
        DataError: when nothing fills one sample.
    """
    splits = {
        split: {
            language: load_summary(_summary(space, split, language)) for language in selection.files_and_bytes(split)
        }
        for split in SPLITS
    }
    if not any(stream.samples for stream in splits["train"].values()):
        raise DataError(
            f"no language has {config.max_seq_len} tokens to train on, not one sample; add sources or lower"
            f" max_seq_len, and give another output_folder or delete {config.output_folder}"
        )
    findings = load_findings(space, selection.partitions)
    return Manifest(
        run_name=config.run_name,
        codelm_version=codelm.__version__,
        settings=settings_of(config),
        max_seq_len=config.max_seq_len,
        dtype=token_dtype(tokenizer.vocab_size).name,
        tokenizer=tokenizer.fingerprint(),
        splits=splits,
        dropped=counts.to_dict(),
        secrets=findings.secrets.to_dict(),
        contamination=findings.contamination.to_dict(),
    )
