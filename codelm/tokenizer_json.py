"""The tokenizer of a pretrained model: a `tokenizer.json` with the surface of `CodeTokenizer`."""

import functools
import itertools
import json
import re
import shutil
from pathlib import Path
from typing import Any

from codelm.errors import TokenizerError
from codelm.tokenizer_base import (
    EOS,
    SPACE_MARK,
    SPECIAL_PIECES,
    PieceTable,
    read_file,
    write_file,
    write_fingerprint,
)

JSON_FILE = "tokenizer.json"
_BYTE_PIECE = re.compile(r"<0x([0-9A-F]{2})>")


class JsonTokenizer(PieceTable):
    """A `tokenizer.json` with the surface of `CodeTokenizer`: byte-level BPE, as SmolLM2's, or one with byte pieces.

    The second kind is sentencepiece's in other clothes (CodeLlama's, and what is exported here). The library itself
    makes text of its ids, since it undoes what it does to a text.

    Raises:
        TokenizerError: when a file is absent or damaged, the package `tokenizers` is absent, or no end-of-text token
            is named by `tokenizer_config.json`, `special_tokens_map.json` or `config.json`.
    """

    kind = JSON_FILE

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        file = self.path / JSON_FILE if self.path.is_dir() else self.path
        self._model_bytes = read_file(file)
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
        steps = json.dumps(json.loads(self._model_bytes).get("decoder"))
        self._byte_level = '"ByteLevel"' in steps
        has_bytes, has_marks = '"ByteFallback"' in steps, json.dumps(SPACE_MARK) in steps
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
            byte = _BYTE_PIECE.fullmatch(piece) if has_bytes else None
            if index in added:
                self._table[index] = added[index].content.encode()
            elif self._byte_level:
                self._table[index] = _byte_level(piece)
            elif byte:
                self._table[index] = bytes([int(byte[1], 16)])
            else:
                self._table[index] = (piece.replace(SPACE_MARK, " ") if has_marks else piece).encode()

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _decode(self, ids: list[int], written_out: dict[int, bytes]) -> str:
        if self._byte_level:
            return super()._decode(ids, written_out)
        kept = [index for index in ids if index in written_out or index not in self._control_text]
        parts = [list(part) for _, part in itertools.groupby(kept, written_out.__contains__)]
        return "".join(
            b"".join(map(written_out.__getitem__, part)).decode()
            if part[0] in written_out
            else self._tokenizer.decode(part)
            for part in parts
        )

    def save(self, folder: str | Path) -> None:
        """Write `tokenizer.json`, the files that name its special tokens, and `fingerprint.json` into a folder."""
        source = self.path if self.path.is_dir() else self.path.parent
        write_file(Path(folder) / JSON_FILE, self._model_bytes)
        for name in _NAMING_FILES[:2]:
            if (source / name).is_file() and not _same_file(source / name, Path(folder) / name):
                shutil.copyfile(source / name, Path(folder) / name)
        write_fingerprint(folder, self._fingerprint)


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


def _same_file(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)
