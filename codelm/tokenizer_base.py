"""What the tokenizers have in common: fingerprints, special pieces, decoding from the bytes of every piece, files."""

import functools
import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from codelm.errors import TokenizerError

FINGERPRINT_FILE = "fingerprint.json"

UNK, EOS, PAD = "<|unk|>", "<|endoftext|>", "<|pad|>"
SPECIAL_PIECES = ("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<fim_pad>", "<repo_name>", "<file_sep>")
"""Reserved pieces, in the order of their ids from 3 on: infilling, repository name, separator between files."""

SPACE_MARK = "\u2581"
"""The character that SentencePiece writes for a space; in a text it must go out as its bytes, or it becomes a space."""

PROBE = (
    "def f(x):\n    if x:\n        return  {'a': [1, 22, 333]}\n\n\n"
    + "\n".join(" " * width + "x" + " " * (40 - width) + "#" for width in range(41))
    + "\n\tfor (int i = 0; i < n; ++i)\t\t{\n\t\t\t*p++ = 0x7f;\r\n\t}\r\n"
    + "naïve λ → 日本語 🙂 \u2581 \x00 <|endoftext|><fim_prefix> https://example.org/?q=%20&r=a_b-C\n"
)
"""Its ids tell tokenizer builds apart. SentencePiece 0.2.2 broke ties in runs of spaces differently: hence the runs."""


@dataclass(frozen=True)
class Fingerprint:
    """What identifies a tokenizer wherever shards, checkpoints and evaluations meet."""

    kind: str
    """`spiece.model` or `tokenizer.json`."""
    model_sha256: str
    library: str
    probe_sha256: str
    """Of the ids of `PROBE`: catches a library that reads the same model differently."""
    vocab_size: int

    def to_dict(self) -> dict[str, str | int]:
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Fingerprint":
        """Raises TokenizerError: when a field is absent or unknown."""
        try:
            return cls(**fields)
        except TypeError as error:
            raise TokenizerError(
                f"the stored tokenizer fingerprint is damaged ({error}); prepare the data again"
            ) from None

    def matches(self, other: "Fingerprint") -> bool:
        """True when both turn text into the same ids; the library's version alone may differ."""
        return (self.model_sha256, self.probe_sha256) == (other.model_sha256, other.probe_sha256)

    def difference(self, other: "Fingerprint") -> str:
        """Why `matches` is false, as the end of a sentence; empty when it is true."""
        if self.model_sha256 != other.model_sha256:
            return (
                f"{self.kind} {self.model_sha256[:12]} with {self.vocab_size} tokens"
                f" is not {other.kind} {other.model_sha256[:12]} with {other.vocab_size} tokens"
            )
        if self.probe_sha256 != other.probe_sha256:
            return f"{self.library} and {other.library} read the same model differently; install {other.library}"
        return ""


def _probe_hash(ids: Sequence[int]) -> str:
    return hashlib.sha256(",".join(map(str, ids)).encode()).hexdigest()


def not_unicode(text: object) -> TokenizerError:
    """The sentence for what cannot be encoded: no str, or one with a lone surrogate."""
    if not isinstance(text, str):
        return TokenizerError(f"a text must be a str, not {type(text).__name__}")
    where = next((index for index, character in enumerate(text) if "\ud800" <= character <= "\udfff"), 0)
    return TokenizerError(
        f"the text holds a lone surrogate (U+{ord(text[where]):04X} at character {where}), which is not Unicode text;"
        " decode the file with errors='replace' or leave it out"
    )


class PieceTable(ABC):
    """What both tokenizers do alike, from the bytes of every piece and the file they were read from."""

    kind: str
    vocab_size: int
    _library: str
    _model_bytes: bytes
    _table: list[bytes]
    _control_text: dict[int, bytes]

    def encode(self, text: str) -> list[int]:
        """The ids of a text: no end-of-text, and the text of a special piece stays text.

        Raises:
            TokenizerError: when the text holds a lone surrogate.
        """
        try:
            return self._encode(text)
        except (UnicodeEncodeError, TypeError):
            raise not_unicode(text) from None

    @abstractmethod
    def _encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Iterable[int], keep_special: bool = False) -> str:
        """The text of ids: the exact inverse of `encode`. Special pieces vanish, or are written out if asked.

        Ids that end inside a character (a generation cut short) end in U+FFFD.

        Raises:
            TokenizerError: when an id is outside the vocabulary.
        """
        numbers = [int(index) for index in ids]
        if numbers and not 0 <= min(numbers) <= max(numbers) < len(self._table):
            bad = next(index for index in numbers if not 0 <= index < len(self._table))
            raise TokenizerError(
                f"id {bad} is outside the vocabulary of {len(self._table)}: the ids come from another tokenizer"
            )
        return self._decode(numbers, self._control_text if keep_special else {})

    def _decode(self, ids: list[int], written_out: dict[int, bytes]) -> str:
        return b"".join([written_out.get(index) or self._table[index] for index in ids]).decode(errors="replace")

    def decode_behind(self, ids: Iterable[int]) -> str:
        """The text that ids add behind other text.

        It differs from `decode` where a tokenizer puts a space in front of every text and takes it off again: here the
        first token's space stays, since it stands behind something.
        """
        ids = list(ids)
        if self.lossless:
            return self.decode(ids)
        before = self.encode("x")
        return self.decode([*before, *ids])[len(self.decode(before)) :]

    def token_bytes(self) -> np.ndarray:
        """The UTF-8 bytes that each token stands for, int32 (vocab_size,); 0 for special tokens."""
        return np.array([len(piece) for piece in self._table], dtype=np.int32)

    @functools.cached_property
    def lossless(self) -> bool:
        """Whether a probe text comes back exactly: of every model trained here, not of a file that normalises text."""
        return self.decode(self.encode(PROBE)) == PROBE

    def fingerprint(self) -> Fingerprint:
        return self._fingerprint

    @functools.cached_property
    def _fingerprint(self) -> Fingerprint:
        return Fingerprint(
            kind=self.kind,
            model_sha256=hashlib.sha256(self._model_bytes).hexdigest(),
            library=self._library,
            probe_sha256=_probe_hash(self.encode(PROBE)),
            vocab_size=self.vocab_size,
        )


def read_file(file: Path) -> bytes:
    """Raises TokenizerError: when the file cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise TokenizerError(f"the tokenizer file {file} cannot be read: {error.strerror}") from None


def write_file(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, file)


def write_fingerprint(folder: str | Path, fingerprint: Fingerprint) -> None:
    """Write `fingerprint.json` into a folder."""
    write_file(Path(folder) / FINGERPRINT_FILE, (json.dumps(fingerprint.to_dict(), indent=2) + "\n").encode())
