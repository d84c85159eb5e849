"""A sentencepiece Unigram vocabulary as GGUF's tokenizer type `t5`, the Unigram tokenizer of llama.cpp.

llama.cpp runs the same search over the same scores, with two gaps: a character outside the vocabulary becomes the
unknown token (there is no byte fallback), and U+2581 in a text becomes a space. Both are closed by the types of tokens:
llama.cpp splits text at user-defined tokens before it searches, so the byte tokens from 0x80 on are user-defined tokens
whose text is that one byte, as are the pieces that hold characters beyond ASCII, which are longer and so come first.
"""

from dataclasses import dataclass
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from codelm.errors import TokenizerError
from codelm.tokenizer import SPACE_MARK

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""GGUF's token types; sentencepiece numbers them the same way."""

_NEVER = -1e6
"""A score below that of any segmentation: the token is never chosen."""
_UNKNOWN_PENALTY = 10.0
"""What sentencepiece takes off the lowest score for a character that it must write as bytes."""


@dataclass(frozen=True)
class GgufVocabulary:
    """The token arrays of a GGUF file, and what goes with them.

    Attributes:
        texts: of each id; a single byte from 0x80 on is not UTF-8 by itself, hence bytes.
        types: GGUF's token types.
        exact_bytes: characters outside the vocabulary become their bytes, as in sentencepiece; otherwise unknown.
        charsmap: sentencepiece's table of normalisations; empty when it changes no character.
    """

    texts: list[bytes]
    scores: list[float]
    types: list[int]
    exact_bytes: bool
    add_space_prefix: bool
    remove_extra_whitespaces: bool
    charsmap: bytes


def gguf_vocabulary(model: bytes, size: int) -> GgufVocabulary:
    """The vocabulary of a serialised sentencepiece model, padded with unused tokens to the `size` of the embedding.

    Raises:
        TokenizerError: when it is no Unigram model.
    """
    proto: Any = sentencepiece_model_pb2.ModelProto.FromString(model)  # pyright: ignore[reportAttributeAccessIssue]
    trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
    if trainer.model_type != trainer.UNIGRAM:
        raise TokenizerError("a GGUF file can be written for a Unigram spiece.model only; this one is of another type")
    # A changed or prefixed text would be changed again in every part that is left between user-defined tokens.
    exact = trainer.byte_fallback and not normalizer.add_dummy_prefix and not normalizer.precompiled_charsmap
    exact = exact and not normalizer.remove_extra_whitespaces
    lowest = min(piece.score for piece in proto.pieces if piece.type == NORMAL)
    known = {piece.piece for piece in proto.pieces if piece.type == NORMAL}
    texts, scores, types = [], [], []
    for piece in proto.pieces:
        text, score, kind = piece.piece.encode(), float(piece.score), int(piece.type)
        plain = piece.piece.replace(SPACE_MARK, " ")
        if kind == NORMAL and exact and not plain.isascii():
            text, kind = plain.encode(), USER_DEFINED
        elif kind == USER_DEFINED:
            text = plain.encode()
        elif kind == UNUSED:
            score = _NEVER
        elif kind == BYTE and exact:
            byte = int(piece.piece[1:-1], 16)
            if byte >= 0x80:
                text, kind = bytes([byte]), USER_DEFINED
            # llama.cpp reads no text with NUL; its byte token can be generated, but not read.
            elif byte and chr(byte) not in known:
                text, kind, score = bytes([byte]), NORMAL, lowest - _UNKNOWN_PENALTY
        texts.append(text)
        scores.append(score)
        types.append(kind)
    for index in range(len(texts), size):
        texts.append(f"<unused_{index}>".encode())
        scores.append(_NEVER)
        types.append(UNUSED)
    return GgufVocabulary(
        texts=texts,
        scores=scores,
        types=types,
        exact_bytes=exact,
        add_space_prefix=normalizer.add_dummy_prefix,
        remove_extra_whitespaces=normalizer.remove_extra_whitespaces,
        charsmap=bytes(normalizer.precompiled_charsmap),
    )
