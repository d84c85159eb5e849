"""A dry run: what a preparation would keep and drop, without writing anything."""

from dataclasses import dataclass
from functools import partial

from codelm.config.data import DataConfig
from codelm.data.clean import Findings
from codelm.data.columns import Columns, ColumnsWriter, concatenate
from codelm.data.documents import Counts
from codelm.data.engines.local import LocalEngine
from codelm.data.prepare import refuse_empty, silent
from codelm.data.select import SPLITS, select
from codelm.data.sources.dispatch import list_files
from codelm.data.stages.documents import add_row, clean_plan
from codelm.data.stages.progress import READING, Progress, reporting
from codelm.data.store import Plan, partition, plan_bytes
from codelm.data.workspace import cpu_count, find_finished
from codelm.tokenizer import load_tokenizer


@dataclass(frozen=True)
class Survey:
    """What a preparation would keep and drop: files and bytes by split and language, drops by language and reason."""

    kept: dict[str, dict[str, tuple[int, int]]]
    dropped: dict[str, dict[str, int]]


def survey(config: DataConfig, progress: Progress = silent) -> Survey:
    """What `prepare` would keep and drop, near duplicates not looked for; writes nothing.

    Raises:
        DataError: when a source is absent, nothing is kept, or the output folder holds something else.
    """
    find_finished(config)
    if config.tokenizer.path is not None:
        load_tokenizer(config.tokenizer.path)
    counts = Counts()
    plans = partition(reporting(list_files(config, counts), progress))
    done, parts = 0, []
    text = config.model_dump_json()
    with LocalEngine(config.num_workers or cpu_count()) as engine:
        for size, columns, dropped in engine.map(partial(_inspect, config=text), plans):
            done += size
            progress(READING, done, None)
            counts.add(dropped)
            parts.append(columns)
    columns, start = concatenate(parts)
    selection = select(columns, start, None, config, counts)
    refuse_empty(selection, counts, config)
    return Survey({split: selection.files_and_bytes(split) for split in SPLITS}, counts.to_dict())


def _inspect(plan: Plan, config: str) -> tuple[int, Columns, dict[str, dict[str, dict[str, int]]]]:
    findings, columns = Findings(), ColumnsWriter()
    for document in clean_plan(plan, config, findings):
        add_row(columns, document, len(document.text.encode()))
    return plan_bytes(plan), columns.finish(), findings.dropped.save()
