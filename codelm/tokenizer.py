"""The tokenizer: SentencePiece Unigram trained for code, exact in both directions, known by a fingerprint.

`CodeTokenizer` reads and writes `spiece.model`; `JsonTokenizer` reads the `tokenizer.json` of a pretrained model
(byte-level BPE). Both have the same surface and need no transformers. Text is always text: a file that contains
`<|endoftext|>` is encoded as those characters, never as the token, and every text comes back exactly.
"""

import functools
import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece

from codelm.errors import TokenizerError

MODEL_FILE = "spiece.model"
JSON_FILE = "tokenizer.json"
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


def _not_unicode(text: object) -> TokenizerError:
    if not isinstance(text, str):
        return TokenizerError(f"a text must be a str, not {type(text).__name__}")
    where = next((index for index, character in enumerate(text) if "\ud800" <= character <= "\udfff"), 0)
    return TokenizerError(
        f"the text holds a lone surrogate (U+{ord(text[where]):04X} at character {where}), which is not Unicode text;"
        " decode the file with errors='replace' or leave it out"
    )


class _PieceTable(ABC):
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
            raise _not_unicode(text) from None

    @abstractmethod
    def _encode(self, text: str) -> list[int]: ...

    def decode(self, ids: Iterable[int], keep_special: bool = False) -> str:
        """The text of ids: the exact inverse of `encode`. Special pieces vanish, or are written out if asked.

        Ids that end inside a character (a generation cut short) end in U+FFFD.

        Raises:
            TokenizerError: when an id is outside the vocabulary.
        """
        return _decode(self._table, self._control_text if keep_special else {}, ids)

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


class CodeTokenizer(_PieceTable):
    """A SentencePiece model as text to ids and back.

    Raises:
        TokenizerError: when the file is absent or is no SentencePiece model, or has no end-of-text piece.
    """

    kind = MODEL_FILE

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / MODEL_FILE if self.path.is_dir() else self.path
        self._model_bytes = _read(file)
        # Typed as Any: the methods are bound at run time, where type checkers cannot see them.
        self._processor: Any = sentencepiece.SentencePieceProcessor()
        try:
            loaded = self._processor.LoadFromSerializedProto(self._model_bytes)
        except (RuntimeError, ValueError) as error:
            raise _not_a_model(file, str(error)) from None
        if not loaded or len(self._processor) == 0:
            raise _not_a_model(file, "it is empty")
        self._library = f"sentencepiece {sentencepiece.__version__}"
        self._set_ids(file)

    def _set_ids(self, file: Path) -> None:
        processor = self._processor
        self.vocab_size: int = len(processor)
        pieces = processor.id_to_piece(list(range(self.vocab_size)))
        controls = [index for index in range(self.vocab_size) if processor.is_control(index)]
        names = {pieces[index]: index for index in controls}
        self.eos_id: int = processor.eos_id() if processor.eos_id() >= 0 else names.get(EOS, -1)
        if self.eos_id < 0:
            raise TokenizerError(f"{file} has no end-of-text piece; train one with data_prep/train_tokenizer.py")
        self.pad_id: int = processor.pad_id() if processor.pad_id() >= 0 else self.eos_id
        self.unk_id: int | None = processor.unk_id() if processor.unk_id() >= 0 else None
        self.special_ids: dict[str, int] = {
            piece.strip("<|>"): names[piece] for piece in SPECIAL_PIECES if piece in names
        }
        self._control_text = {index: pieces[index].encode() for index in controls}
        self._table = [_piece_bytes(processor, index, piece) for index, piece in enumerate(pieces)]
        mark = [processor.piece_to_id(f"<0x{byte:02X}>") for byte in SPACE_MARK.encode()]
        self._mark_ids = mark if all(processor.is_byte(index) for index in mark) else None

    def _encode(self, text: str) -> list[int]:
        if SPACE_MARK not in text or self._mark_ids is None:
            return self._processor.encode(text)
        first, *rest = text.split(SPACE_MARK)
        ids = self._processor.encode(first)
        for part in rest:
            ids += self._mark_ids
            ids += self._processor.encode(part)
        return ids

    def save(self, folder: str | Path) -> None:
        """Write `spiece.model` and `fingerprint.json` into a folder."""
        write_file(Path(folder) / MODEL_FILE, self._model_bytes)
        write_fingerprint(folder, self._fingerprint)


class JsonTokenizer(_PieceTable):
    """A `tokenizer.json` (byte-level BPE, such as SmolLM2's) with the surface of `CodeTokenizer`.

    Raises:
        TokenizerError: when a file is absent or damaged, the package `tokenizers` is absent, or no end-of-text token
            is named by `tokenizer_config.json`, `special_tokens_map.json` or `config.json`.
    """

    kind = JSON_FILE

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / JSON_FILE if self.path.is_dir() else self.path
        self._model_bytes = _read(file)
        try:
            import tokenizers
        except ImportError:
            raise TokenizerError(f"{file} needs the package `tokenizers`; run `pip install tokenizers`") from None
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_buffer(self._model_bytes)
        except Exception as error:  # the library raises bare Exception for every kind of damage
            raise TokenizerError(f"{file} is no tokenizer.json that `tokenizers` can read: {error}") from None
        # Without this, text such as `<|endoftext|>` in a source file would become the special token.
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._library = f"tokenizers {tokenizers.__version__}"
        self._set_ids(file)

    def _set_ids(self, file: Path) -> None:
        # Not get_vocab_size: ids may have gaps.
        self.vocab_size: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1
        added = self._tokenizer.get_added_tokens_decoder()
        special = {token.content: index for index, token in added.items() if token.special}
        eos, pad = _named_tokens(file.parent, special)
        if eos is None:
            raise TokenizerError(
                f"{file} comes without the name of its end-of-text token; put its tokenizer_config.json beside it"
            )
        self.eos_id: int = eos
        self.pad_id: int = eos if pad is None else pad
        self.unk_id: int | None = None
        self.special_ids: dict[str, int] = {
            piece.strip("<|>"): special[piece] for piece in SPECIAL_PIECES if piece in special
        }
        self._control_text = {index: token.content.encode() for index, token in added.items() if token.special}
        self._table = [b""] * self.vocab_size
        for piece, index in self._tokenizer.get_vocab(with_added_tokens=True).items():
            if index in self._control_text:
                continue
            self._table[index] = added[index].content.encode() if index in added else _byte_level(piece)

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, the files that name its special tokens, and `fingerprint.json` into a folder."""
        source = self.path if self.path.is_dir() else self.path.parent
        write_file(Path(folder) / JSON_FILE, self._model_bytes)
        for name in _NAMING_FILES[:2]:
            if (source / name).is_file() and not _same_file(source / name, Path(folder) / name):
                shutil.copyfile(source / name, Path(folder) / name)
        write_fingerprint(folder, self._fingerprint)


Tokenizer = CodeTokenizer | JsonTokenizer


def load_tokenizer(path: str | Path) -> Tokenizer:
    """The tokenizer in a folder (`spiece.model` first, else `tokenizer.json`) or in one of these files.

    Raises:
        TokenizerError: when there is none, it is damaged, or it is not what the folder's fingerprint says.
    """
    path = Path(path)
    if not path.exists():
        raise TokenizerError(
            f"there is no tokenizer at {path}; run data_prep/main.py first, or name a folder with {MODEL_FILE} or"
            f" {JSON_FILE}"
        )
    tokenizer: Tokenizer
    if path.is_file():
        return JsonTokenizer(path) if path.suffix == ".json" else CodeTokenizer(path)
    if (path / MODEL_FILE).is_file():
        tokenizer = CodeTokenizer(path)
    elif (path / JSON_FILE).is_file():
        tokenizer = JsonTokenizer(path)
    else:
        raise TokenizerError(f"the folder {path} holds neither {MODEL_FILE} nor {JSON_FILE}; name a tokenizer's folder")
    _check_stored_fingerprint(path, tokenizer)
    return tokenizer


def _piece_bytes(processor: Any, index: int, piece: str) -> bytes:
    if processor.is_control(index):
        return b""
    if processor.is_unknown(index):
        return "\ufffd".encode()
    if processor.is_byte(index):
        return bytes([int(piece[1:-1], 16)])
    return piece.replace(SPACE_MARK, " ").encode()


def _decode(table: list[bytes], written_out: dict[int, bytes], ids: Iterable[int]) -> str:
    numbers = [int(index) for index in ids]
    if numbers and not 0 <= min(numbers) <= max(numbers) < len(table):
        bad = next(index for index in numbers if not 0 <= index < len(table))
        raise TokenizerError(f"id {bad} is outside the vocabulary of {len(table)}: the ids come from another tokenizer")
    return b"".join([written_out.get(index) or table[index] for index in numbers]).decode(errors="replace")


@functools.cache
def _byte_alphabet() -> dict[str, int]:
    """GPT-2's byte alphabet: printable Latin-1 bytes stand for themselves, the others for U+0100 onwards."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    hidden = (byte for byte in range(256) if byte not in set(printable))
    alphabet.update((chr(0x100 + index), byte) for index, byte in enumerate(hidden))
    return alphabet


def _byte_level(piece: str) -> bytes:
    alphabet = _byte_alphabet()
    try:
        return bytes(alphabet[character] for character in piece)
    except KeyError:
        return piece.encode()


_NAMING_FILES = ("tokenizer_config.json", "special_tokens_map.json", "config.json")


def _named_tokens(folder: Path, special: dict[str, int]) -> tuple[int | None, int | None]:
    """The ids of the end-of-text and padding tokens, from the first file beside the tokenizer that names each."""
    found: dict[str, int] = {}
    for name in _NAMING_FILES:
        if not (folder / name).is_file():
            continue
        try:
            fields = json.loads((folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise TokenizerError(f"{folder / name} is not readable JSON ({error}); restore the file") from None
        for key in ("eos", "pad"):
            token = fields.get(f"{key}_token")
            content = token.get("content") if isinstance(token, dict) else token
            index = special.get(content) if isinstance(content, str) else fields.get(f"{key}_token_id")
            index = index[0] if isinstance(index, list) and index else index
            if isinstance(index, int):
                found.setdefault(key, index)
    return found.get("eos", special.get(EOS)), found.get("pad")


def _not_a_model(file: Path, reason: str) -> TokenizerError:
    return TokenizerError(f"{file} is no SentencePiece model ({reason.strip()}); restore the file or train it anew")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise TokenizerError(f"the tokenizer file {file} cannot be read: {error.strerror}") from None


def write_file(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, file)


def write_fingerprint(folder: str | Path, fingerprint: Fingerprint) -> None:
    write_file(Path(folder) / FINGERPRINT_FILE, (json.dumps(fingerprint.to_dict(), indent=2) + "\n").encode())


def _check_stored_fingerprint(folder: Path, tokenizer: Tokenizer) -> None:
    file = folder / FINGERPRINT_FILE
    if not file.is_file():
        return
    try:
        stored = Fingerprint.from_dict(json.loads(file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise TokenizerError(f"{file} is not readable JSON ({error}); delete it or restore it") from None
    if not tokenizer.fingerprint().matches(stored):
        raise TokenizerError(
            f"the tokenizer in {folder} is not the one its {FINGERPRINT_FILE} was written for:"
            f" {tokenizer.fingerprint().difference(stored)}"
        )


def _same_file(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)
