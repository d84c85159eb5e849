"""Token ids to shards: the documents of one language of one split, one after another, cut into rows."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codelm.data.engine import whole_folder
from codelm.data.manifest import StreamInfo
from codelm.data.shards import ShardInfo, ShardWriter
from codelm.data.store import read_json, write_json

DOCUMENTS_FILE = "documents.jsonl"
_BLOCK_TOKENS = 1 << 22


@dataclass(frozen=True)
class PackTask:
    """One language of one split."""

    name: str
    """`<split>.<language>`"""
    tokens: tuple[Path, ...]
    """The folders of the partitions, in order."""
    output: Path
    summary: Path
    """Where the figures for the manifest go."""
    scratch: Path
    max_seq_len: int
    dtype: str
    shard_bytes: int


def pack_stream(task: PackTask) -> None:
    """Write the shards, `index.json` and `documents.jsonl` of one stream; nothing when they are there already."""
    if task.output.exists():
        return
    with whole_folder(task.output, task.scratch) as folder:
        files, size = 0, 0
        with ShardWriter(folder, task.max_seq_len, np.dtype(task.dtype), task.shard_bytes) as writer:
            for partition in task.tokens:
                _copy_tokens(partition / f"{task.name}.tokens", writer)
        start = 0
        with (folder / DOCUMENTS_FILE).open("w", encoding="utf-8") as output:
            for partition in task.tokens:
                source = partition / f"{task.name}.jsonl"
                if not source.exists():
                    continue
                with source.open(encoding="utf-8") as lines:
                    for line in lines:
                        fields = json.loads(line)
                        output.write(json.dumps({**fields, "start": start}) + "\n")
                        start += fields["tokens"]
                        size += fields["bytes"]
                        files += 1
        summary = {
            "files": files,
            "bytes": size,
            "tokens": start,
            "samples": writer.samples,
            "shards": [shard.__dict__ for shard in writer.shards],
        }
        # Before the rename: a stream that is in place always has its figures.
        write_json(summary, task.summary)


def load_summary(file: Path) -> StreamInfo:
    fields = read_json(file)
    return StreamInfo(**{**fields, "shards": tuple(ShardInfo(**shard) for shard in fields["shards"])})


def _copy_tokens(file: Path, writer: ShardWriter) -> None:
    if not file.exists():
        return
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK_TOKENS * writer.dtype.itemsize):
            writer.write(np.frombuffer(block, writer.dtype))
