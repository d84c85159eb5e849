"""The exact tokenizer as a transformers class: sentencepiece underneath, nothing of transformers in between.

Text is text: `<|endoftext|>` in source code is encoded as those characters. The ids of special tokens are had from
`eos_token_id`, `convert_tokens_to_ids("<fim_prefix>")` and so on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sentencepiece
import transformers
from packaging import version
from transformers import PreTrainedTokenizer

from codelm.errors import TokenizerError
from codelm.tokenizer import MODEL_FILE, CodeTokenizer

# transformers 5 has another name for special tokens beyond the usual ones.
_EXTRA = "extra_special_tokens" if version.parse(transformers.__version__).major >= 5 else "additional_special_tokens"


class ReplitCodeTokenizer(PreTrainedTokenizer):
    """`CodeTokenizer` with transformers' interface; encode and decode give exactly what it gives.

    Tokens, as opposed to ids, are sentencepiece's pieces, in which U+2581 stands for a space.

    Raises:
        TokenizerError: `vocab_file` is no usable sentencepiece model, or a token is added: the vocabulary is fixed.
    """

    vocab_files_names = {"vocab_file": MODEL_FILE}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    padding_side = "left"

    def __init__(self, vocab_file: str, **kwargs: Any) -> None:
        # Before super().__init__, which asks for the vocabulary.
        self.sp_model = CodeTokenizer(vocab_file)
        self.vocab_file = vocab_file
        processor: Any = sentencepiece.SentencePieceProcessor()
        processor.LoadFromFile(str(vocab_file))
        self._pieces: list[str] = processor.id_to_piece(list(range(self.sp_model.vocab_size)))
        self._ids = {piece: index for index, piece in enumerate(self._pieces)}
        own = {"eos_token": self.sp_model.eos_id, "pad_token": self.sp_model.pad_id, "unk_token": self.sp_model.unk_id}
        kwargs |= {role: self._pieces[index] for role, index in own.items() if index is not None}
        kwargs.setdefault(_EXTRA, [self._pieces[index] for index in self.sp_model.special_ids.values()])
        kwargs.setdefault("split_special_tokens", True)
        super().__init__(**{**kwargs, "clean_up_tokenization_spaces": False})

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.sp_model.vocab_size

    def get_vocab(self) -> dict[str, int]:
        """The id of each piece."""
        return dict(self._ids)

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return [self._pieces[index] for index in self.sp_model.encode(text)]

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token, self.sp_model.unk_id)

    def _convert_id_to_token(self, index: int) -> str:
        return self._pieces[index]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of pieces, special ones written out."""
        return self.sp_model.decode([self._ids[token] for token in tokens], keep_special=True)

    def _decode(self, token_ids: int | list[int], skip_special_tokens: bool = False, **kwargs: Any) -> str:
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        return self.sp_model.decode(ids, keep_special=not skip_special_tokens)

    def _add_tokens(self, new_tokens: Sequence[Any], special_tokens: bool = False) -> int:
        unknown = [str(token) for token in new_tokens if str(token) not in self._ids]
        if unknown:
            raise TokenizerError(
                f"{', '.join(map(repr, unknown))} cannot be added: the vocabulary of {self.vocab_file} is fixed; "
                "train a tokenizer that has it"
            )
        return super()._add_tokens(list(new_tokens), special_tokens)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write `spiece.model` and its fingerprint into a folder; returns the model's path."""
        self.sp_model.save(save_directory)
        file = Path(save_directory) / MODEL_FILE
        if filename_prefix:
            file = file.rename(file.with_name(f"{filename_prefix}-{MODEL_FILE}"))
        return (str(file),)
