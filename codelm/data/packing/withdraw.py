"""A corpus without some of its repositories, made from its shards and its lists of documents alone.

The sources may be gone. The tokens of all other documents are copied as they are into new shards, packed the same way;
at the end the new corpus is read back and compared with the old one, document by document.
"""

import difflib
import fnmatch
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, tee
from pathlib import Path
from typing import Any

import numpy as np

from codelm.data.engines.local import whole_folder
from codelm.data.manifest import Manifest, StreamInfo, load_manifest, save_manifest
from codelm.data.packing.pack import DOCUMENTS_FILE, Packing, make_packer, stream_info, summary_of
from codelm.data.packing.packers import TokenDocument
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.shards import ShardWriter
from codelm.errors import DataError
from codelm.tokenizer import load_tokenizer

_TOKENIZER_FOLDER = "tokenizer"

Progress = Callable[[str, int, int], None]
"""Called with a stream's name, the bytes of token ids that were read, and their total."""


@dataclass(frozen=True)
class Withdrawn:
    """What was taken out, and what could not be kept."""

    manifest: Manifest
    repositories: tuple[str, ...]
    files: int
    """Of the withdrawn repositories."""
    tokens: int
    unwritten_files: int
    """Of other repositories, in no sample of the old corpus: they were in its incomplete last row."""


def withdraw(
    folder: str | Path, patterns: Sequence[str], output: str | Path, progress: Progress = lambda *_: None
) -> Withdrawn:
    """Write to `output` the corpus in `folder` without the repositories that match one of the glob patterns.

    Raises:
        DataError: a pattern matches no repository, nothing would be left, `output` exists, or the corpus is damaged.
    """
    folder, output = Path(folder), Path(output)
    manifest = load_manifest(folder)
    manifest.check(folder)
    if output.exists():
        raise DataError(
            f"{output} exists already; name a folder that does not, for the corpus without the repositories"
        )
    streams = [(split, language) for split, languages in manifest.splits.items() for language in languages]
    leaving = _matching(patterns, _repositories(folder, streams), folder)
    copier = _Copier(folder, manifest, frozenset(leaving))
    scratch = output.parent / f".{output.name}.unfinished"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        with whole_folder(output, scratch) as filling:
            splits: dict[str, dict[str, StreamInfo]] = {split: {} for split in manifest.splits}
            for split, language in streams:
                info = copier.copy(filling, split, language, progress)
                if info.files:
                    splits[split][language] = info
            if not any(info.samples for info in splits.get("train", {}).values()):
                raise DataError(
                    f"without {', '.join(leaving)} nothing of {folder} is left to train on; delete it instead"
                )
            shutil.copytree(folder / _TOKENIZER_FOLDER, filling / _TOKENIZER_FOLDER)
            withdrawn = tuple(sorted({*manifest.withdrawn, *leaving}))
            made = replace(manifest, splits=splits, withdrawn=withdrawn)
            save_manifest(made, filling)
            _verify(copier, filling, made)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Withdrawn(made, tuple(leaving), copier.files, copier.tokens, copier.unwritten_files)


def _repositories(folder: Path, streams: Iterable[tuple[str, str]]) -> set[str]:
    found = set()
    for split, language in streams:
        found |= {fields["repository"] for fields in _lines(folder, split, language)}
    return found


def _matching(patterns: Sequence[str], repositories: set[str], folder: Path) -> list[str]:
    leaving: set[str] = set()
    for pattern in patterns:
        # A name may hold characters that patterns use.
        matches = {name for name in repositories if name == pattern or fnmatch.fnmatchcase(name, pattern)}
        if not matches:
            close = difflib.get_close_matches(pattern, repositories, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else f"it has {_some(sorted(repositories))}"
            raise DataError(f"{folder} has no repository `{pattern}`; {hint}")
        leaving |= matches
    return sorted(leaving)


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def _lines(folder: Path, split: str, language: str) -> Iterator[dict[str, Any]]:
    file = folder / split / language / DOCUMENTS_FILE
    try:
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)
    except FileNotFoundError:
        raise DataError(f"{file} is missing; without it nobody can say which tokens are of which repository") from None


class _Stream:
    """The files of one stream, in order, with their tokens as far as these were written."""

    def __init__(self, folder: Path, split: str, language: str) -> None:
        self._place = folder, split, language
        self.reader = ShardReader(folder, split, language)
        self.written = len(self.reader) * self.reader.max_seq_len

    def files(self) -> Iterator[TokenDocument]:
        """Each line of the list with its tokens; what was never written is missing from them."""
        for fields in _lines(*self._place):
            end = min(fields["start"] + fields["tokens"], self.written)
            yield self._file(fields, min(fields["start"], self.written), end)

    def _file(self, fields: dict[str, Any], first: int, end: int) -> TokenDocument:
        length = self.reader.max_seq_len
        if first == end:
            return TokenDocument(np.empty(0, self.reader.dtype), [fields])
        top = first // length
        rows = self.reader.read(range(top, -(-end // length)))
        inside = slice(first - top * length, end - top * length)
        mask = None if rows.loss_mask is None else rows.loss_mask.reshape(-1)[inside]
        return TokenDocument(rows.tokens.reshape(-1)[inside], [fields], mask)


class _Copier:
    """Copies the streams of one corpus, all but the documents of the repositories that leave."""

    def __init__(self, folder: Path, manifest: Manifest, leaving: frozenset[str]) -> None:
        self.folder, self.manifest, self.leaving = folder, manifest, leaving
        self.eos_id = load_tokenizer(folder / _TOKENIZER_FOLDER).eos_id
        self.files = self.tokens = self.unwritten_files = 0

    def packing(self, stream: _Stream) -> Packing:
        best_fit = stream.reader.has_loss_mask or self.manifest.settings.get("packing") == "best_fit"
        return "best_fit" if best_fit else "concat"

    def kept(self, stream: _Stream) -> Iterator[TokenDocument]:
        """The files that stay, as far as they were written."""
        return (file for file in stream.files() if file.files[0]["repository"] not in self.leaving and len(file.tokens))

    def copy(self, output: Path, split: str, language: str, progress: Progress) -> StreamInfo:
        old, name = _Stream(self.folder, split, language), f"{split}/{language}"
        info, done = self.manifest.splits[split][language], 0
        packing = self.packing(old)
        writer = ShardWriter(
            output / split / language,
            self.manifest.max_seq_len,
            np.dtype(self.manifest.dtype),
            self.manifest.settings["shard_bytes"],
            loss_mask=old.reader.has_loss_mask,
        )
        with writer, (writer.folder / DOCUMENTS_FILE).open("w", encoding="utf-8") as lines:
            packer = make_packer(packing, writer, lines, self.eos_id)
            for document in self._documents(old.files(), packing):
                done += len(document.tokens)
                progress(name, done * old.reader.dtype.itemsize, info.tokens * old.reader.dtype.itemsize)
                if document.files[0]["repository"] in self.leaving:
                    self.files += sum(not fields.get("part") for fields in document.files)
                    self.tokens += len(document.tokens)
                elif len(document.tokens) == 0:
                    self.unwritten_files += len(document.files)
                else:
                    packer.add(document)
                    packer.figures.truncated += self._is_truncated(document)
            packer.finish()
        return stream_info(summary_of(packer, writer))

    def _is_truncated(self, conversation: TokenDocument) -> bool:
        return conversation.loss_mask is not None and int(conversation.tokens[-1]) != self.eos_id

    def _documents(self, files: Iterator[TokenDocument], packing: Packing) -> Iterator[TokenDocument]:
        """Files put together as they were packed: those that follow one another without an end of text between."""
        together: list[TokenDocument] = []
        length = self.manifest.max_seq_len
        ahead, behind = tee(files)
        for file, following in zip(behind, chain(_skip_one(ahead), [None]), strict=True):
            fields = file.files[0]
            end = fields["start"] + fields["tokens"]
            together.append(file)
            goes_on = (
                following is not None
                and following.files[0]["start"] == end
                and len(file.tokens) > 0
                and len(following.tokens) > 0
                and file.tokens[-1] != self.eos_id
                and not (packing == "best_fit" and end % length == 0)
            )
            if not goes_on:
                yield _joined(together)
                together = []


def _skip_one(files: Iterator[TokenDocument]) -> Iterator[TokenDocument]:
    next(files, None)
    return files


def _joined(files: list[TokenDocument]) -> TokenDocument:
    """One document of several files; of what was not written nothing is said."""
    lines = []
    for file in files:
        fields = {key: value for key, value in file.files[0].items() if key != "start"}
        lines.append({**fields, "tokens": len(file.tokens)})
    masks = [file.loss_mask for file in files if file.loss_mask is not None]
    mask = np.concatenate(masks) if masks else None
    return TokenDocument(np.concatenate([file.tokens for file in files]), lines, mask)


def _verify(copier: _Copier, output: Path, made: Manifest) -> None:
    """Read the new corpus back: nothing of the withdrawn is in it, everything else is, to the token.

    Raises:
        DataError: it is not so; nothing is left of the new corpus then.
    """
    made.check(output, hashes=True)
    for split, languages in copier.manifest.splits.items():
        for language in languages:
            old = _Stream(copier.folder, split, language)
            if language not in made.splits[split]:
                if next(copier.kept(old), None) is not None:
                    raise _differs(split, language)
                shutil.rmtree(output / split / language)
                continue
            new = _Stream(output, split, language)
            if any(fields["repository"] in copier.leaving for fields in _lines(output, split, language)):
                raise _differs(split, language)
            # Packed one after another, the end of the last documents may be in no whole row of the new corpus.
            limit = new.written if copier.packing(old) == "concat" else None
            if _digest(copier.kept(old), limit) != _digest(new.files(), limit):
                raise _differs(split, language)


def _digest(files: Iterable[TokenDocument], limit: int | None) -> tuple[int, int]:
    """Of all files and their tokens and masks, whatever their order: their number, and the sum of their hashes."""
    number, total, left = 0, 0, limit
    for file in files:
        tokens = file.tokens if left is None else file.tokens[:left]
        left = None if left is None else left - len(tokens)
        if not len(tokens):
            continue
        fields = {key: value for key, value in file.files[0].items() if key not in ("start", "tokens")}
        digest = hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16)
        digest.update(tokens.tobytes())
        digest.update(b"" if file.loss_mask is None else file.loss_mask.tobytes())
        number += 1
        total = (total + int.from_bytes(digest.digest(), "little")) % 2**128
    return number, total


def _differs(split: str, language: str) -> DataError:
    return DataError(
        f"the copy of {split}/{language} is not what it should be, and was thrown away; check the disk, or prepare the"
        " data again with exclude_repositories"
    )
