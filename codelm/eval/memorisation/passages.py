"""Files of a prepared corpus as texts, drawn by a hash: of the split that was trained on, and of one that was not."""

import heapq
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.data.manifest import Manifest, load_manifest
from codelm.data.packing.pack import DOCUMENTS_FILE
from codelm.data.reading.fetch import is_remote
from codelm.data.reading.shard_reader import ShardReader
from codelm.errors import DataError, EvaluationError
from codelm.eval.memorisation.canaries import Canary
from codelm.eval.results import text_hash
from codelm.tokenizer import load_tokenizer

_MOST_TOKENS = 4096
"""Of a file so many are read at most, from its beginning."""
_MOST_CHARACTERS = 16
"""Of a token, on average over a file; what has fewer tokens than that allows is not read at all."""


@dataclass(frozen=True)
class Passage:
    """The beginning of a file of a corpus.

    Attributes:
        id: split, language, repository and path.
        text: as it was trained on: secrets are redacted, and what preparation adds is there.
    """

    id: str
    split: str
    language: str
    repository: str
    path: str
    text: str


class CorpusTexts:
    """The texts of a prepared corpus on this machine.

    Raises:
        EvaluationError: it is remote.
        DataError, TokenizerError: it is absent, unfinished or damaged.
    """

    def __init__(self, path: str) -> None:
        if is_remote(path):
            raise EvaluationError(f"{path} is remote: an audit reads a corpus on this machine; copy it here")
        self.folder = Path(path)
        self.manifest: Manifest = load_manifest(path)
        self._tokenizer = load_tokenizer(self.folder / "tokenizer")

    def draw(
        self, split: str, count: int, least_characters: int, seed: int = 0, without: Collection[str] = ()
    ) -> list[Passage]:
        """Files of a split, those of the lowest hashes; fewer than `count` where no more are long enough.

        Args:
            without: names of files that are not drawn.
        """
        # Half as many again: some turn out to be too short.
        lowest = heapq.nsmallest(
            count + count // 2 + 8,
            (
                (text_hash(f"{seed} {language} {row['repository']} {row['path']} {row['blob']}"), language, number, row)
                for language, number, row in self.documents(split)
                if row["tokens"] * _MOST_CHARACTERS >= least_characters and Path(row["path"]).name not in without
            ),
        )
        passages = (self.read(split, language, row) for _, language, _, row in lowest)
        return [passage for passage in passages if len(passage.text) >= least_characters][:count]

    def documents(self, split: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Language, number and line of every file of a split that is in its samples."""
        for language, info in self.manifest.splits.get(split, {}).items():
            if not info.samples:
                continue
            held = info.samples * self.manifest.max_seq_len
            file = self.folder / split / language / DOCUMENTS_FILE
            try:
                lines = file.open(encoding="utf-8")
            except FileNotFoundError:
                raise DataError(f"{file} is missing; prepare the data again to trace its samples") from None
            with lines:
                for number, line in enumerate(lines):
                    row = json.loads(line)
                    if row["start"] + row["tokens"] <= held:
                        yield language, number, row

    def read(self, split: str, language: str, row: dict[str, Any]) -> Passage:
        """The text of a file, as far as `_MOST_TOKENS` tokens reach."""
        length = self.manifest.max_seq_len
        first, end = row["start"], row["start"] + min(row["tokens"], _MOST_TOKENS)
        reader = ShardReader(self.folder, split, language)
        tokens = reader.read(range(first // length, -(-end // length))).tokens.reshape(-1)
        ids = tokens[first % length : first % length + end - first].tolist()
        text = self._tokenizer.decode([id for id in ids if id != self._tokenizer.eos_id])
        where = (split, language, row["repository"], row["path"])
        return Passage("/".join(where), *where, text)

    def untrained_split(self) -> str | None:
        """A split that training does not read, the largest; None where there is none."""
        others = {
            split: sum(info.files for info in streams.values()) for split, streams in self.manifest.splits.items()
        }
        others.pop("train", None)
        return max(sorted(others), key=lambda split: others[split]) if any(others.values()) else None


def planted(corpus: CorpusTexts, canaries: Sequence[Canary]) -> dict[str, tuple[int, int]]:
    """For each canary, how many of its files training reads, and how many of those still hold the secret."""
    owners = {name: canary for canary in canaries for name in canary.files()}
    found = {canary.id: (0, 0) for canary in canaries}
    for language, _, row in corpus.documents("train"):
        canary = owners.get(Path(row["path"]).name)
        if canary is not None:
            files, whole = found[canary.id]
            found[canary.id] = files + 1, whole + (canary.secret in corpus.read("train", language, row).text)
    return found
