"""Documents to token ids: one partition at a time, each document followed by the end-of-text token."""

import functools
import json
from array import array
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from codelm.data.engine import whole_folder
from codelm.data.select import LEFT_OUT, SPLITS
from codelm.data.shards import flush_to_disk, token_dtype
from codelm.data.store import read_texts
from codelm.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True)
class TokeniseTask:
    """One partition: where its documents are, which go to which split, and where the tokens go."""

    documents: Path
    output: Path
    tokenizer: Path
    scratch: Path
    split: np.ndarray
    """uint8 (n,): an index of SPLITS or LEFT_OUT."""


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def encode_document(tokenizer: Tokenizer, text: str, dtype: np.dtype) -> array:
    """The ids of a text and the end-of-text token, as an array of the shards' dtype."""
    ids = tokenizer.encode(text)
    ids.append(tokenizer.eos_id)
    return array("H" if dtype.itemsize == 2 else "I", ids)


def tokenise_partition(task: TokeniseTask) -> int:
    """Write `<split>.<language>.tokens` and `….jsonl` (a line a document); returns the bytes of text read.

    Does nothing when the output is there already.
    """
    selected = task.split != LEFT_OUT
    if task.output.exists():
        return 0
    tokenizer = _tokenizer(task.tokenizer)
    dtype = token_dtype(tokenizer.vocab_size)
    read = 0
    with whole_folder(task.output, task.scratch) as folder, ExitStack() as files:
        opened: dict[str, tuple[BinaryIO, TextIO]] = {}
        splits = iter(task.split[selected].tolist())
        for record, text in read_texts(task.documents, selected.tolist()):
            name = f"{SPLITS[next(splits)]}.{record.language}"
            if name not in opened:
                opened[name] = (
                    files.enter_context((folder / f"{name}.tokens").open("wb")),
                    files.enter_context((folder / f"{name}.jsonl").open("w", encoding="utf-8")),
                )
            tokens, lines = opened[name]
            ids = encode_document(tokenizer, text, dtype)
            tokens.write(ids)
            fields = {
                "repository": record.repository,
                "commit": record.commit,
                "path": record.path,
                "licence": record.licence,
                "blob": record.blob,
                "bytes": record.bytes,
                "tokens": len(ids),
            }
            lines.write(json.dumps(fields) + "\n")
            read += record.bytes
        for tokens, lines in opened.values():
            flush_to_disk(tokens)
            lines.flush()
    return read
