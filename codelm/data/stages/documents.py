"""Sources to cleaned documents: the files are listed in partitions, and each partition is read by itself."""

import functools
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from codelm.config.data import DataConfig
from codelm.data.clean import Cleaner, Findings, rank_of
from codelm.data.columns import ColumnsWriter
from codelm.data.contamination.sought import Sought
from codelm.data.dedup.minhash import Signer
from codelm.data.dedup.near_duplicates import SIGNATURES_FILE
from codelm.data.documents import Counts, Document
from codelm.data.engines.local import Engine, whole_folder
from codelm.data.shards import write_atomically
from codelm.data.sources.dispatch import list_files, read_documents
from codelm.data.stages.places import documents_folder
from codelm.data.stages.progress import READING, Progress, reporting
from codelm.data.store import DocumentWriter, Plan, load_plan, partition, plan_bytes, read_json, save_plan, write_json
from codelm.data.workspace import Workspace
from codelm.languages import INSTRUCTIONS

logger = logging.getLogger(__name__)

_SOUGHT = "sought.json"


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
            write_json({"sizes": sizes, "dropped": scanned.save()}, filling / "summary.json")
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
        found_here = findings.of(repository.source)
        found = read_documents(
            repository,
            files,
            parsed.filters,
            found_here.dropped,
            notebooks=parsed.notebooks,
            languages=parsed.languages,
            exclude_repositories=parsed.exclude_repositories,
        )
        for _, document in found:
            cleaned = cleaner.clean(document, found_here) if document is not None else None
            if cleaned is not None:
                yield replace(cleaned, source=repository.source)


def add_row(columns: ColumnsWriter, document: Document, size: int) -> None:
    """The row of a document whose text has `size` bytes."""
    columns.add(
        document.digest,
        size,
        document.language,
        document.repository,
        document.changed,
        rank_of(document.licence),
        document.source,
    )


def _read_partition(task: _ReadTask) -> None:
    if task.output.exists():
        return
    config, _ = _cleaner(task.config)
    near = config.dedup.near
    findings, columns = Findings(), ColumnsWriter(list(config.sources))
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
    _cleaner.cache_clear()  # a benchmark may have been built anew under the same name
    _, cleaner = _cleaner(text)  # a benchmark that cannot be read is refused here, not in a worker
    for warning in filter(None, (one.warning() for one in cleaner.sought)):
        logger.warning("decontamination: %s", warning)
    write_atomically(space.work / _SOUGHT, json.dumps([asdict(one) for one in cleaner.sought]).encode())
    tasks = [
        _ReadTask(space.work / "plan" / f"{index:05}.json", documents_folder(space, index), space.scratch, text)
        for index in range(len(partitions))
    ]
    done = 0
    progress(READING, done, sum(partitions))
    for index in engine.each(_read_partition, tasks):
        done += partitions[index]
        progress(READING, done, sum(partitions))


def load_sought(space: Workspace) -> tuple[Sought, ...]:
    """Which evaluation problems the documents were searched for."""
    return tuple(map(Sought.from_dict, read_json(space.work / _SOUGHT)))


def load_findings(space: Workspace, partitions: int) -> Findings:
    """What cleaning found in all partitions."""
    findings = Findings()
    for index in range(partitions):
        findings.merge(read_json(documents_folder(space, index) / "findings.json"))
    return findings
