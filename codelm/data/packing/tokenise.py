"""Documents to token ids: one partition at a time, each document followed by the end-of-text token.

A partition's folder holds for each stream `<split>.<language>.tokens` (ids), `….jsonl` (a line a file, in the order of
the ids) and, where some text has no loss, `….mask` (a byte a token).
"""

import functools
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from codelm.config.data import ContextSection
from codelm.data.engines.local import whole_folder
from codelm.data.packing.context import SourceFile, encode_repository, in_order, path_comment, takes_comment
from codelm.data.packing.pack import GOES_ON
from codelm.data.select import LEFT_OUT, SPLITS
from codelm.data.shards import flush_to_disk, token_dtype
from codelm.data.store import Record, json_line, read_texts
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
    context: ContextSection = field(default_factory=ContextSection)
    seed: int = 17
    """Of the order of files and of the files with path comments."""


@functools.lru_cache(maxsize=1)
def _tokenizer(folder: Path) -> Tokenizer:
    return load_tokenizer(folder)


def encode_document(tokenizer: Tokenizer, text: str, dtype: np.dtype) -> np.ndarray:
    """The ids of a text and the end-of-text token, as an array of the shards' dtype."""
    ids = tokenizer.encode(text)
    ids.append(tokenizer.eos_id)
    return _as_array(ids, dtype)


def _as_array(ids: list[int], dtype: np.dtype) -> np.ndarray:
    # 6 ns an id; numpy alone takes 50, array("H") 45.
    return np.frombuffer(array("I", ids), np.uint32).astype(dtype, copy=False)


def encode_trained(
    tokenizer: Tokenizer, text: str, trained: Sequence[Sequence[int]], dtype: np.dtype
) -> tuple[np.ndarray, bytes]:
    """The ids of a text of which the character ranges `trained` have loss, end-of-text included, and the loss mask.

    The parts are encoded one by one, so no token belongs to two. The end-of-text token has loss when the text ends
    with a trained range, white space aside. The mask holds a byte, 0 or 1, for each token.
    """
    ids: list[int] = []
    mask, place = bytearray(), 0
    for first, end in trained:
        for part, loss in ((text[place:first], 0), (text[first:end], 1)):
            encoded = tokenizer.encode(part)
            ids += encoded
            mask += bytes([loss]) * len(encoded)
        place = end
    rest = tokenizer.encode(text[place:])
    ids += [*rest, tokenizer.eos_id]
    mask += bytes(len(rest))
    mask.append(bool(trained) and not text[place:].strip())
    return _as_array(ids, dtype), bytes(mask)


def tokenise_partition(task: TokeniseTask) -> int:
    """Write the tokens of every stream of a partition; returns the bytes of text read.

    Does nothing when the output is there already.
    """
    if task.output.exists():
        return 0
    tokenizer = _tokenizer(task.tokenizer)
    dtype = token_dtype(tokenizer.vocab_size)
    read = 0
    with whole_folder(task.output, task.scratch) as folder, ExitStack() as files:
        streams: dict[str, _Stream] = {}
        for name, together in _documents(task):
            if name not in streams:
                streams[name] = _Stream(folder, name, files)
            read += sum(record.bytes for record, _ in together)
            if task.context.by_repository and together[0][0].trained is None:
                _write_repository(streams[name], tokenizer, together, dtype)
            else:
                [(record, text)] = together
                _write_file(streams[name], tokenizer, record, text, dtype, task)
        for stream in streams.values():
            stream.flush()
    return read


_Texts = list[tuple[Record, str]]


def _documents(task: TokeniseTask) -> Iterator[tuple[str, _Texts]]:
    """The stream's name, and the file or the files that make a document."""
    selected = task.split != LEFT_OUT
    splits = iter(task.split[selected].tolist())
    repositories: dict[tuple[str, str, str | None], _Texts] = defaultdict(list)
    for record, text in read_texts(task.documents, selected.tolist()):
        name = f"{SPLITS[next(splits)]}.{record.language}"
        if task.context.by_repository and record.trained is None:
            # A partition is small enough to be held in memory.
            repositories[name, record.repository, record.commit].append((record, text))
        else:
            yield name, [(record, text)]
    for (name, _, _), together in repositories.items():
        files = [SourceFile(record.path, record.language, text, record.digest) for record, text in together]
        yield name, [together[number] for number in in_order(files, task.context, task.seed)]


def _write_file(
    stream: "_Stream", tokenizer: Tokenizer, record: Record, text: str, dtype: np.dtype, task: TokeniseTask
) -> None:
    if record.trained is not None:
        stream.write(record, *encode_trained(tokenizer, text, record.trained, dtype))
        return
    if task.context.path_comments and takes_comment(record.digest, task.context.path_comments, task.seed):
        text = path_comment(record.path, record.language, text)
    stream.write(record, encode_document(tokenizer, text, dtype))


def _write_repository(stream: "_Stream", tokenizer: Tokenizer, together: _Texts, dtype: np.dtype) -> None:
    files = [SourceFile(record.path, record.language, text, record.digest) for record, text in together]
    encoded = encode_repository(tokenizer, together[0][0].repository, files)
    for number, ((record, _), ids) in enumerate(zip(together, encoded, strict=True), 1):
        stream.write(record, _as_array(ids, dtype), goes_on=number < len(together))


class _Stream:
    """The files of one stream of a partition."""

    def __init__(self, folder: Path, name: str, files: ExitStack) -> None:
        self._files = files
        self._mask_file = folder / f"{name}.mask"
        self._tokens: BinaryIO = files.enter_context((folder / f"{name}.tokens").open("wb"))
        self._lines: TextIO = files.enter_context((folder / f"{name}.jsonl").open("w", encoding="utf-8"))
        self._mask: BinaryIO | None = None
        self._written = 0

    def write(self, record: Record, ids: np.ndarray, mask: bytes | None = None, goes_on: bool = False) -> None:
        fields = {
            "source": record.source,
            "repository": record.repository,
            "commit": record.commit,
            "path": record.path,
            "licence": record.licence,
            "blob": record.blob,
            "bytes": record.bytes,
            "tokens": len(ids),
        }
        self._tokens.write(ids.data)
        self._lines.write(json_line({**fields, GOES_ON: True} if goes_on else fields))
        if mask is not None and self._mask is None:
            self._mask = self._files.enter_context(self._mask_file.open("wb"))
            self._mask.write(b"\x01" * self._written)
        if self._mask is not None:
            self._mask.write(b"\x01" * len(ids) if mask is None else mask)
        self._written += len(ids)

    def flush(self) -> None:
        flush_to_disk(self._tokens)
        self._lines.flush()
        if self._mask is not None:
            flush_to_disk(self._mask)
