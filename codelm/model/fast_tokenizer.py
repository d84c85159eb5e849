"""A `tokenizer.json` for those who load an exported model with transformers alone.

It runs the same Unigram model in the Rust library `tokenizers`. Two things make it agree with sentencepiece where a
plain conversion does not: pieces hold real spaces instead of U+2581, so that U+2581 in a text stays itself; and pieces
that text must never become score so low that any other way to write them wins. What remains are texts with several
equally good segmentations, which the two libraries break differently: `measure_mismatch` counts them.
"""

import functools
import json
import sysconfig
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer

from codelm.errors import TokenizerError
from codelm.tokenizer import MODEL_FILE, PROBE, SPACE_MARK, CodeTokenizer

MISMATCH_FILE = "tokenizer_mismatch.json"

_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece  # pyright: ignore[reportAttributeAccessIssue]
_NEVER = 1000
"""Times the lowest score: a piece that text must not become loses to writing out its characters."""


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
        TokenizerError: the model cannot be written in this form.
    """
    text, mismatch = _built((folder / MODEL_FILE).read_bytes())
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
        TokenizerError: when the model is no Unigram model, or changes text before it splits it.
    """
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]
    _check_plain(proto)
    normal = [piece.score for piece in proto.pieces if piece.type == _Piece.NORMAL]
    lowest, highest = min(normal), max(normal)
    never = {_Piece.CONTROL, _Piece.UNKNOWN, _Piece.BYTE, _Piece.UNUSED}
    vocab = []
    for piece in proto.pieces:
        score = piece.score
        if piece.type in never:
            score = _NEVER * lowest
        elif piece.type == _Piece.USER_DEFINED:
            # sentencepiece's own bonus, by which the longest such piece always wins.
            score = len(piece.piece) * highest - 0.1
        vocab.append([piece.piece.replace(SPACE_MARK, " "), score])
    unknown = next(index for index, piece in enumerate(proto.pieces) if piece.type == _Piece.UNKNOWN)
    added = [
        {
            "id": index,
            "content": piece.piece,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for index, piece in enumerate(proto.pieces)
        if piece.type in (_Piece.CONTROL, _Piece.UNKNOWN)
    ]
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": None,
            "post_processor": None,
            "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
            "model": {"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": True},
        },
        ensure_ascii=False,
    )


def _check_plain(proto: Any) -> None:
    normalizer, trainer = proto.normalizer_spec, proto.trainer_spec
    if trainer.model_type != trainer.UNIGRAM:
        raise TokenizerError(
            "tokenizer.json can be written for a Unigram spiece.model only; this one is of another type"
        )
    changes = {
        "normalises characters": bool(normalizer.precompiled_charsmap),
        "adds a space in front": normalizer.add_dummy_prefix,
        "removes extra spaces": normalizer.remove_extra_whitespaces,
        "has no byte fallback": not trainer.byte_fallback,
    }
    found = [name for name, present in changes.items() if present]
    if found:
        raise TokenizerError(f"tokenizer.json cannot be written for this spiece.model: it {' and '.join(found)}")


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
