"""Training the tokenizer: a SentencePiece Unigram model of the corpus, the same bytes for the same texts."""

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import sentencepiece
from sentencepiece.sentencepiece_model_pb2 import ModelProto  # pyright: ignore[reportAttributeAccessIssue]

from codelm.errors import TokenizerError
from codelm.tokenizer import EOS, MODEL_FILE, PAD, SPECIAL_PIECES, UNK, CodeTokenizer, write_file, write_fingerprint

TAB_RUNS = tuple("\t" * length for length in range(1, 9))
"""SentencePiece's trainer never learns a piece with a tab, so runs of tabs are pieces from the start."""

TRAINER_THREADS = 4
"""Fixed: the trainer's sums, and so the model's bytes, depend on it."""


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, folder: str | Path, max_sentence_length: int = 16_384
) -> CodeTokenizer:
    """Train a SentencePiece Unigram model on texts and save it; the same texts give the same bytes.

    Texts longer than `max_sentence_length` bytes are cut before a line's end: SentencePiece would leave them out
    without a word, and ends the process ("isnan(score)") on some 100,000 characters without a space.

    Raises:
        TokenizerError: when there are no texts, or too few for `vocab_size`.
    """
    model = io.BytesIO()
    counted = _Counted(texts, max(1, max_sentence_length // 4))
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(counted),
            model_writer=model,
            model_type="unigram",
            vocab_size=vocab_size,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            split_digits=True,
            byte_fallback=True,
            max_sentence_length=max_sentence_length,
            unk_id=0,
            eos_id=1,
            pad_id=2,
            bos_id=-1,
            unk_piece=UNK,
            eos_piece=EOS,
            pad_piece=PAD,
            control_symbols=list(SPECIAL_PIECES),
            user_defined_symbols=list(TAB_RUNS),
            num_threads=TRAINER_THREADS,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise _untrainable(str(error), vocab_size, counted.count) from None
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_file(folder / MODEL_FILE, _on_a_grid(model.getvalue()))
    tokenizer = CodeTokenizer(folder)
    write_fingerprint(folder, tokenizer.fingerprint())
    return tokenizer


_TAB_SCORE = -4.0


def _on_a_grid(model: bytes) -> bytes:
    """The model with scores that are multiples of 1/16, whose sums every implementation computes without rounding.

    Trained scores differ in the last bits, so that SentencePiece (fp32) and `tokenizers` (fp64) break ties between
    segmentations differently, in about half of all source files. The runs of tabs become ordinary pieces.
    """
    proto = ModelProto.FromString(model)
    for piece in proto.pieces:
        if piece.type == ModelProto.SentencePiece.USER_DEFINED:
            piece.type, piece.score = ModelProto.SentencePiece.NORMAL, _TAB_SCORE
        elif piece.type == ModelProto.SentencePiece.NORMAL:
            piece.score = round(piece.score * 16) / 16
    return proto.SerializeToString(deterministic=True)


class _Counted:
    def __init__(self, texts: Iterable[str], longest: int) -> None:
        self.texts, self.longest, self.count = texts, longest, 0

    def __iter__(self) -> Iterator[str]:
        for text in self.texts:
            self.count += 1
            yield from _cut(text, self.longest)


def _cut(text: str, longest: int) -> Iterator[str]:
    """The text in parts of at most `longest` characters, each but the first beginning with a newline if one is near."""
    start = 0
    while len(text) - start > longest:
        end = text.rfind("\n", start + 1, start + longest)
        end = start + longest if end < 0 else end
        yield text[start:end]
        start = end
    yield text[start:]


def _untrainable(message: str, vocab_size: int, texts: int) -> TokenizerError:
    if texts == 0:
        return TokenizerError("there is no text to train the tokenizer on; check the sources and the filters")
    limit = re.search(r"value <= (\d+)", message)
    if limit is not None:
        return TokenizerError(
            f"{texts} texts are too few for a vocabulary of {vocab_size}; set vocab_size to at most"
            f" {limit[1]}, or add text"
        )
    needed = re.search(r"required_chars\. \d+ vs (\d+)", message)
    if needed is not None:
        return TokenizerError(
            f"a vocabulary of {vocab_size} cannot hold the bytes and the characters of the text;"
            f" set vocab_size to at least {needed[1]}"
        )
    return TokenizerError(f"SentencePiece could not train {vocab_size} pieces on {texts} texts: {message.strip()}")
