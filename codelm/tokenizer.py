"""The tokenizer: SentencePiece Unigram trained for code, exact in both directions, known by a fingerprint.

`CodeTokenizer` reads and writes `spiece.model`; `JsonTokenizer` reads the `tokenizer.json` of a pretrained model
(byte-level BPE). Both have the same surface and need no transformers. Text is always text: a file that contains
`<|endoftext|>` is encoded as those characters, never as the token, and every text comes back exactly.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]

from codelm.errors import TokenizerError
from codelm.tokenizer_base import (
    EOS,
    FINGERPRINT_FILE,
    PAD,
    PROBE,
    SPACE_MARK,
    SPECIAL_PIECES,
    UNK,
    Fingerprint,
    PieceTable,
    not_unicode,
    read_file,
    write_file,
    write_fingerprint,
)
from codelm.tokenizer_json import JSON_FILE, JsonTokenizer

__all__ = [
    "EOS",
    "FINGERPRINT_FILE",
    "JSON_FILE",
    "MODEL_FILE",
    "PAD",
    "PROBE",
    "SPACE_MARK",
    "SPECIAL_PIECES",
    "UNK",
    "CodeTokenizer",
    "Fingerprint",
    "JsonTokenizer",
    "Tokenizer",
    "load_tokenizer",
    "write_file",
    "write_fingerprint",
]

MODEL_FILE = "spiece.model"


class CodeTokenizer(PieceTable):
    """A SentencePiece model as text to ids and back.

    Its ids and its text are those of sentencepiece itself, with one exception: where the model changes no text,
    U+2581, which sentencepiece confuses with a space, comes back as itself.

    Raises:
        TokenizerError: when the file is absent or is no SentencePiece model, or has no end-of-text piece.
    """

    kind = MODEL_FILE

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / MODEL_FILE if self.path.is_dir() else self.path
        self._model_bytes = read_file(file)
        # Typed as Any: the methods are bound at run time, where type checkers cannot see them.
        self._processor: Any = sentencepiece.SentencePieceProcessor()
        try:
            loaded = self._processor.LoadFromSerializedProto(self._model_bytes)
        except (RuntimeError, ValueError) as error:
            raise _not_a_model(file, str(error)) from None
        if not loaded or len(self._processor) == 0:
            raise _not_a_model(file, "it is empty")
        self._library = f"sentencepiece {sentencepiece.__version__}"
        self._changes_text = changes_text(ModelProto.FromString(self._model_bytes))
        self._set_ids(file)

    def _set_ids(self, file: Path) -> None:
        processor = self._processor
        self.vocab_size: int = len(processor)
        pieces: list[str] = processor.id_to_piece(list(range(self.vocab_size)))
        self.pieces = pieces
        """The piece of each id, as sentencepiece writes it: with U+2581 for a space."""
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
        as_bytes = not self._changes_text and all(processor.is_byte(index) for index in mark)
        self._mark_ids = mark if as_bytes else None

    def _encode(self, text: str) -> list[int]:
        if SPACE_MARK not in text or self._mark_ids is None:
            return self._processor.encode(text)
        first, *rest = text.split(SPACE_MARK)
        ids = self._processor.encode(first)
        for part in rest:
            ids += self._mark_ids
            ids += self._processor.encode(part)
        return ids

    def _decode(self, ids: list[int], written_out: dict[int, bytes]) -> str:
        if not self._changes_text:
            return super()._decode(ids, written_out)
        # Such a model undoes its own changes (the space it put in front), in each part between special pieces.
        text, part = "", list[int]()
        for index in ids:
            if index in written_out:
                text += self._processor.decode(part) + written_out[index].decode()
                part = []
            else:
                part.append(index)
        return text + self._processor.decode(part)

    def pieces_of(self, text: str) -> list[str]:
        """Sentencepiece's own pieces of a text; a run of unknown characters is a piece spelt as they are.

        Raises:
            TokenizerError: when the text holds a lone surrogate.
        """
        try:
            return self._processor.encode(text, out_type=str)
        except (UnicodeEncodeError, TypeError):
            raise not_unicode(text) from None

    def text_of(self, pieces: Sequence[str]) -> str:
        """What sentencepiece itself makes of pieces: special ones vanish and U+2581 becomes a space."""
        return self._processor.decode(list(pieces)) if pieces else ""

    def save(self, folder: str | Path) -> None:
        """Write `spiece.model` and `fingerprint.json` into a folder."""
        write_file(Path(folder) / MODEL_FILE, self._model_bytes)
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
        return processor.decode([index]).encode()
    if processor.is_byte(index):
        return bytes([int(piece[1:-1], 16)])
    return piece.replace(SPACE_MARK, " ").encode()


def changes_text(proto: Any) -> bool:
    """Whether a sentencepiece model normalises text, or puts a space in front of it, before it splits it."""
    normalizer = proto.normalizer_spec
    return bool(
        normalizer.precompiled_charsmap
        or normalizer.add_dummy_prefix
        or normalizer.remove_extra_whitespaces
        or not normalizer.escape_whitespaces
        or proto.trainer_spec.treat_whitespace_as_suffix
        or proto.denormalizer_spec.precompiled_charsmap
    )


def _not_a_model(file: Path, reason: str) -> TokenizerError:
    return TokenizerError(f"{file} is no SentencePiece model ({reason.strip()}); restore the file or train it anew")


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
