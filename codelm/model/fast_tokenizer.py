"""A `tokenizer.json` for those who load an exported model with transformers alone.

It runs the same Unigram model in the Rust library `tokenizers`. Two things make it agree with sentencepiece where a
plain conversion does not: pieces hold real spaces instead of U+2581, so that U+2581 in a text stays itself; and pieces
that text must never become score so low that any other way to write them wins. What remains are texts with several
equally good segmentations, which the two libraries break differently: `measure_mismatch` counts them. A model that
changes text before it splits it keeps its U+2581, and its changes are imitated as well as `tokenizers` can.
"""

import base64
import functools
import json
import re
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from codelm.errors import TokenizerError
from codelm.tokenizer import MODEL_FILE, PROBE, SPACE_MARK, CodeTokenizer, changes_text

MISMATCH_FILE = "tokenizer_mismatch.json"

_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece  # pyright: ignore[reportAttributeAccessIssue]
_NEVER = 1000
"""Times the lowest score: a piece that text must not become loses to writing out its characters."""
_SWAPPED = str.maketrans({SPACE_MARK: " ", " ": SPACE_MARK})
_TOO_MANY = 0.5
"""The share of differing files from which a tokenizer.json does more harm than good."""


@dataclass(frozen=True)
class Mismatch:
    """On how many of the sampled files `tokenizer.json` and sentencepiece give different ids."""

    corpus: str
    files: int
    differing: int
    bytes: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def sentence(self) -> str:
        return (
            f"tokenizer.json differs from sentencepiece on {self.differing} of {self.files} files "
            f"({self.bytes / 1e6:.1f} MB of {self.corpus})"
        )


def write_fast_tokenizer(tokenizer: CodeTokenizer, folder: Path, max_seq_len: int) -> Mismatch:
    """Write tokenizer.json, its tokenizer_config.json and its measured mismatch beside the `spiece.model` in a folder.

    Raises:
        TokenizerError: the model cannot be written in this form, or most files would have other ids.
    """
    text, mismatch = _built((folder / MODEL_FILE).read_bytes())
    if mismatch.differing > _TOO_MANY * mismatch.files:
        raise TokenizerError(f"{mismatch.sentence()}, too many for it to be of use")
    names = {token["id"]: token["content"] for token in json.loads(text)["added_tokens"]}
    own = {"eos_token": tokenizer.eos_id, "pad_token": tokenizer.pad_id, "unk_token": tokenizer.unk_id}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{role: names[index] for role, index in own.items() if index is not None},
        "clean_up_tokenization_spaces": False,
        # Source code that contains `<|endoftext|>` must not end the document.
        "split_special_tokens": True,
        "padding_side": "left",
        # Without this it returns token_type_ids too, which generate refuses.
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_seq_len,
    }
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    for name, fields in (("tokenizer_config.json", config), (MISMATCH_FILE, mismatch.to_dict())):
        (folder / name).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")
    return mismatch


@functools.lru_cache(maxsize=4)
def _built(model: bytes) -> tuple[str, Mismatch]:
    """A training run writes the same tokenizer with every checkpoint; it is converted and measured once."""
    text = fast_tokenizer_json(model)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MODEL_FILE).write_bytes(model)
        tokenizer = CodeTokenizer(folder)
    return text, measure_mismatch(tokenizer, Tokenizer.from_str(text), *sample_texts())


def fast_tokenizer_json(model: bytes) -> str:
    """The text of `tokenizer.json` for a serialised sentencepiece model.

    Raises:
        TokenizerError: when the model is no Unigram model, or treats spaces as `tokenizers` cannot.
    """
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]
    _check_form(proto)
    # Without bytes to write it in, U+2581 becomes a space here too.
    changes = changes_text(proto) or not proto.trainer_spec.byte_fallback
    normal = [piece.score for piece in proto.pieces if piece.type == _Piece.NORMAL]
    lowest, highest = min(normal), max(normal)
    never = {_Piece.CONTROL, _Piece.UNKNOWN, _Piece.BYTE, _Piece.UNUSED}
    vocab = []
    for piece in proto.pieces:
        score = piece.score
        if piece.type in never or " " in piece.piece:  # sentencepiece looks for marks, and so never finds a space
            score = _NEVER * lowest
        elif piece.type == _Piece.USER_DEFINED:
            # sentencepiece's own bonus, by which the longest such piece always wins.
            score = len(piece.piece) * highest - 0.1
        vocab.append([piece.piece if changes else piece.piece.translate(_SWAPPED), score])
    unknown = next(index for index, piece in enumerate(proto.pieces) if piece.type == _Piece.UNKNOWN)
    added = [
        {
            "id": index,
            "content": piece.piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": piece.type != _Piece.USER_DEFINED,
        }
        for index, piece in enumerate(proto.pieces)
        if piece.type in (_Piece.CONTROL, _Piece.UNKNOWN) or _is_shielded(piece, proto)
    ]
    fallback = bool(proto.trainer_spec.byte_fallback)
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": _normalizer(proto),
            "pre_tokenizer": _pre_tokenizer(proto, changes),
            "post_processor": None,
            "decoder": _decoder(proto, changes),
            "model": {"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": fallback},
        },
        ensure_ascii=False,
    )


def _check_form(proto: Any) -> None:
    trainer = proto.trainer_spec
    obstacles = {
        "is no Unigram model": trainer.model_type != trainer.UNIGRAM,
        "puts spaces behind words": trainer.treat_whitespace_as_suffix,
        "does not mark spaces": not proto.normalizer_spec.escape_whitespaces,
        "changes text when it decodes": bool(proto.denormalizer_spec.precompiled_charsmap),
    }
    found = [name for name, present in obstacles.items() if present]
    if found:
        raise TokenizerError(f"tokenizer.json cannot be written for this spiece.model: it {' and '.join(found)}")


def _is_shielded(piece: Any, proto: Any) -> bool:
    """Whether a piece must be an added token, around which `tokenizers` normalises, as sentencepiece does."""
    changed = bool(proto.normalizer_spec.precompiled_charsmap)
    return changed and piece.type == _Piece.USER_DEFINED and not {" ", SPACE_MARK} & set(piece.piece)


def _has_parts(proto: Any) -> bool:
    """Whether what the normalizer sees may be a part of the text only, whose ends are not the text's."""
    return any(_is_shielded(piece, proto) for piece in proto.pieces)


def _normalizer(proto: Any) -> dict[str, Any] | None:
    spec = proto.normalizer_spec
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if spec.remove_extra_whitespaces:
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        if not _has_parts(proto):
            steps.append({"type": "Replace", "pattern": {"Regex": r"\A | \z"}, "content": ""})
    if spec.add_dummy_prefix and not _has_parts(proto):
        steps.append({"type": "Prepend", "prepend": " "})
    return {"type": "Sequence", "normalizers": steps} if steps else None


def _pre_tokenizer(proto: Any, changes: bool) -> dict[str, Any] | None:
    steps: list[dict[str, Any]] = []
    if changes:
        scheme = "first" if proto.normalizer_spec.add_dummy_prefix and _has_parts(proto) else "never"
        steps.append({"type": "Metaspace", "replacement": SPACE_MARK, "prepend_scheme": scheme, "split": False})
    # To `tokenizers` an unknown character is worse than any piece, also than one that text must never become: such
    # characters of the reserved pieces are kept apart, as in sentencepiece, where no other piece holds them.
    known, reserved = {" ", SPACE_MARK}, set[str]()
    for piece in proto.pieces:
        (known if piece.type in (_Piece.NORMAL, _Piece.USER_DEFINED) else reserved).update(piece.piece)
    unknown = sorted(reserved - known)
    if unknown:
        pattern = f"[{''.join(map(re.escape, unknown))}]+"
        steps.append({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False})
    return {"type": "Sequence", "pretokenizers": steps} if steps else None


def _decoder(proto: Any, changes: bool) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if changes:
        # Before bytes become characters, one of which may be the mark itself.
        steps.insert(0, {"type": "Replace", "pattern": {"String": SPACE_MARK}, "content": " "})
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def measure_mismatch(tokenizer: CodeTokenizer, fast: Tokenizer, texts: list[str], corpus: str) -> Mismatch:
    """Encode texts with both and count those with different ids; special-token text is text to both."""
    fast.encode_special_tokens = True
    differing = sum(fast.encode(text, add_special_tokens=False).ids != tokenizer.encode(text) for text in texts)
    return Mismatch(corpus, len(texts), differing, sum(len(text.encode()) for text in texts))


def sample_texts(count: int = 200, max_bytes: int = 20_000) -> tuple[list[str], str]:
    """Real files that every machine has, spread evenly over Python's standard library, and their name."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(path for path in root.rglob("*.py") if "site-packages" not in path.parts)
    files = [path for path in files if 0 < path.stat().st_size <= max_bytes]
    texts = [PROBE]
    for path in files[:: max(1, len(files) // count)]:
        try:
            texts.append(path.read_bytes().decode())
        except UnicodeDecodeError:
            continue
    return texts, f"Python {sysconfig.get_python_version()}'s standard library"
