"""Token ids to shards: the documents of one language of one split, in rows (`packers`)."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np

from codelm.data.engines.local import whole_folder
from codelm.data.manifest import Share, StreamInfo
from codelm.data.packing.packers import BestFitPacker, ConcatPacker, Packer, TokenDocument
from codelm.data.shards import MASK_DTYPE, ShardInfo, ShardWriter
from codelm.data.store import read_json, write_json

DOCUMENTS_FILE = "documents.jsonl"
GOES_ON = "goes_on"
"""In the tokens' lines only: the document of this file has further files, on the lines that follow."""

Packing = Literal["concat", "best_fit"]


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
    packing: Packing = "concat"
    """Streams with a loss mask are packed best-fit whatever this says: a conversation is not cut."""
    eos_id: int | None = None
    """What fills the room at the end of a row; best-fit needs it."""


def pack_stream(task: PackTask) -> None:
    """Write the shards, `index.json` and `documents.jsonl` of one stream; nothing when they are there already."""
    if task.output.exists():
        return
    masked = any((partition / f"{task.name}.mask").exists() for partition in task.tokens)
    dtype = np.dtype(task.dtype)
    with whole_folder(task.output, task.scratch) as folder:
        with (
            ShardWriter(folder, task.max_seq_len, dtype, task.shard_bytes, loss_mask=masked) as writer,
            (folder / DOCUMENTS_FILE).open("w", encoding="utf-8") as lines,
        ):
            packer = make_packer("best_fit" if masked else task.packing, writer, lines, task.eos_id)
            for partition in task.tokens:
                for document in read_documents(partition, task.name, dtype, masked):
                    packer.add(document)
            packer.finish()
        # Before the rename: a stream that is in place always has its figures.
        write_json(summary_of(packer, writer), task.summary)


def make_packer(packing: Packing, writer: ShardWriter, lines: TextIO, eos_id: int | None) -> Packer:
    """The packer of a way of packing; best-fit needs the end-of-text id."""
    if packing == "concat":
        return ConcatPacker(writer, lines)
    assert eos_id is not None, "best-fit packing fills rows with the end-of-text token"
    return BestFitPacker(writer, lines, eos_id)


def read_documents(partition: Path, name: str, dtype: np.dtype, masked: bool = False) -> Iterator[TokenDocument]:
    """The tokenised documents of one stream in a partition, in order; none when it has none."""
    if not (partition / f"{name}.jsonl").exists():
        return
    with ExitStack() as files:
        tokens = files.enter_context((partition / f"{name}.tokens").open("rb"))
        masks = None
        if masked and (partition / f"{name}.mask").exists():
            masks = files.enter_context((partition / f"{name}.mask").open("rb"))
        together: list[dict[str, Any]] = []
        for line in files.enter_context((partition / f"{name}.jsonl").open(encoding="utf-8")):
            together.append(json.loads(line))
            if together[-1].pop(GOES_ON, False):
                continue
            count = sum(file["tokens"] for file in together)
            ids = np.frombuffer(tokens.read(count * dtype.itemsize), dtype)
            mask = np.ones(count, MASK_DTYPE) if masked else None
            if masks is not None:
                mask = np.frombuffer(masks.read(count), MASK_DTYPE)
            yield TokenDocument(ids, together, mask)
            together = []


def summary_of(packer: Packer, writer: ShardWriter) -> dict[str, Any]:
    """The stream's figures for the manifest; the writer is closed."""
    figures = asdict(packer.figures)
    figures |= {key: dict(sorted(figures[key].items())) for key in ("sources", "licences")}
    return {**figures, "samples": writer.samples, "shards": [shard.__dict__ for shard in writer.shards]}


def load_summary(file: Path) -> StreamInfo:
    return stream_info(read_json(file))


def stream_info(summary: dict[str, Any]) -> StreamInfo:
    """The figures as the manifest holds them."""
    shards = tuple(ShardInfo(**shard) for shard in summary["shards"])
    sources = {key: Share(**share) for key, share in summary["sources"].items()}
    return StreamInfo(**{**summary, "shards": shards, "sources": sources})
