"""The exact tokenizer as a transformers class: sentencepiece underneath, nothing of transformers in between.

Text is text: `<|endoftext|>` in source code is encoded as those characters, unless a call says
`split_special_tokens=False`. With `legacy=True` it does what the class published with replit-code-v1-3b did.
"""

import functools
import logging
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import transformers
from packaging import version
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizer
from transformers.models.auto import tokenization_auto

from codelm.errors import TokenizerError
from codelm.tokenizer import MODEL_FILE, CodeTokenizer

log = logging.getLogger(__name__)

_EXTRAS = ("additional_special_tokens", "extra_special_tokens")
# transformers 5 has another name for special tokens beyond the usual ones.
_EXTRA = _EXTRAS[version.parse(transformers.__version__).major >= 5]
_PUBLISHED = "replit_lm_tokenizer.ReplitLMTokenizer"


class ReplitCodeTokenizer(PreTrainedTokenizer):
    """`CodeTokenizer` with transformers' interface; encode and decode give exactly what it gives.

    Tokens, as opposed to ids, are sentencepiece's pieces, in which U+2581 stands for a space.

    Args:
        vocab_file: path of `spiece.model`.
        legacy: reproduce the published class: the text of a special token becomes the token and loses the whitespace
            on both sides, decoding leaves special tokens out also when not asked to, and U+2581 becomes a space.
        kwargs: transformers' own. A special token that `spiece.model` lacks is replaced by the model's, with a warning.

    Raises:
        TokenizerError: `vocab_file` is no usable sentencepiece model, a token is added (the vocabulary is fixed), or
            `sp_model_kwargs` asks for sampling.
    """

    vocab_files_names = {"vocab_file": MODEL_FILE}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    padding_side = "left"

    def __init__(self, vocab_file: str, legacy: bool = False, **kwargs: Any) -> None:
        if vocab_file is None:
            raise TokenizerError(f"there is no {MODEL_FILE} in {kwargs.get('name_or_path') or 'the folder'}")
        # Before super().__init__, which asks for the vocabulary.
        self.sp_model = CodeTokenizer(vocab_file)
        self.vocab_file = vocab_file
        self.legacy = bool(legacy)
        self._ids = {piece: index for index, piece in enumerate(self.sp_model.pieces)}
        as_text = kwargs.get("split_special_tokens", True) and not self.legacy
        super().__init__(**self._settled(kwargs), legacy=self.legacy, clean_up_tokenization_spaces=False)
        self.split_special_tokens = as_text

    def _settled(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if kwargs.pop("sp_model_kwargs", None):
            raise TokenizerError("sp_model_kwargs cannot be set, since ids are exact and never sampled; leave it out")
        # Of the folder it came from: the ids are those of spiece.model, and no remote code is referred to again.
        for name in ("added_tokens_decoder", "auto_map", "tokenizer_file", "clean_up_tokenization_spaces"):
            kwargs.pop(name, None)
        model = self.sp_model
        for role, index in {"eos_token": model.eos_id, "pad_token": model.pad_id, "unk_token": model.unk_id}.items():
            own = None if index is None else model.pieces[index]
            given = None if kwargs.get(role) is None else str(kwargs[role])
            if given is not None and given not in self._ids:
                log.warning("%s has no piece %r; its %s is %r", self.vocab_file, given, role, own)
            kwargs[role] = given if given in self._ids else own
        # Each version of transformers refuses the other's name; a saved folder has either.
        stored = [tokens for name in _EXTRAS if (tokens := kwargs.pop(name, None)) is not None]
        extra = [token for tokens in stored for token in (tokens.values() if isinstance(tokens, dict) else tokens)]
        if not stored and not self.legacy:
            extra = [model.pieces[index] for index in model.special_ids.values()]
        return {**kwargs, _EXTRA: list(dict.fromkeys(map(str, extra)))} if extra else kwargs

    @property
    def vocab_size(self) -> int:
        """Number of ids."""
        return self.sp_model.vocab_size

    def get_vocab(self) -> dict[str, int]:
        """The id of each piece."""
        return dict(self._ids)

    def tokenize(self, text: str, **kwargs: Any) -> list[str]:
        """The pieces of a text; those of special tokens in it only with `split_special_tokens=False`."""
        # transformers 4 keeps the argument of its name from arriving here; see _batch_encode_plus.
        as_text = kwargs.get("_special_as_text", kwargs.get("split_special_tokens", self.split_special_tokens))
        if as_text:
            return self._tokenize(text)
        special = sorted(self.added_tokens_encoder, key=len, reverse=True)
        parts = re.split(f"({'|'.join(map(re.escape, special))})", text)
        if self.legacy:
            for place in range(0, len(parts), 2):
                parts[place] = parts[place].lstrip() if place > 0 else parts[place]
                parts[place] = parts[place].rstrip() if place < len(parts) - 1 else parts[place]
        tokens = []
        for place, part in enumerate(parts):
            tokens += [part] if place % 2 else self._tokenize(part)
        return tokens

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        if self.legacy:
            return self.sp_model.pieces_of(text)
        return [self.sp_model.pieces[index] for index in self.sp_model.encode(text)]

    def batch_encode_plus(self, *args: Any, **kwargs: Any) -> Any:
        """Of transformers 4, where it would otherwise take special text for tokens without being asked."""
        base: Any = super()
        return base.batch_encode_plus(*args, **{"split_special_tokens": self.split_special_tokens, **kwargs})

    def _batch_encode_plus(self, *args: Any, split_special_tokens: bool, **kwargs: Any) -> Any:
        # transformers 4's own takes this argument and then forgets it.
        base: Any = super()
        return base._batch_encode_plus(*args, **kwargs, _special_as_text=split_special_tokens)

    def _convert_token_to_id(self, token: str) -> int | None:
        return self._ids.get(token, self.sp_model.unk_id)

    def _convert_id_to_token(self, index: int) -> str:
        if not 0 <= index < self.vocab_size:
            self.sp_model.decode([index])  # refuses it, in one sentence
        return self.sp_model.pieces[index]

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of pieces; special ones are written out, or left out in legacy form."""
        if self.legacy:
            return self.sp_model.text_of(tokens)
        ids = [self._convert_token_to_id(token) for token in tokens]
        return self.sp_model.decode([index for index in ids if index is not None], keep_special=True)

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        **kwargs: Any,
    ) -> str:
        if self.legacy:
            # The published class went through a single id's piece letter by letter, so that not even EOS was left out.
            pieces = self.convert_ids_to_tokens(token_ids, skip_special_tokens=skip_special_tokens)
            text = self.sp_model.text_of(list(pieces))
            return self.clean_up_tokenization(text) if clean_up_tokenization_spaces else text
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

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoTokenizer") -> None:
        """Do nothing: a saved folder must not ask its users to run code from it."""


class ReplitLMTokenizer(ReplitCodeTokenizer):
    """The name that replit-code-v1-3b's tokenizer_config.json asks for; what it makes is a `ReplitCodeTokenizer`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return ReplitCodeTokenizer(*args, **kwargs)


class _PublishedTokenizerConfig(PretrainedConfig):
    """AutoTokenizer finds a class by its name only through a configuration that it is registered for."""


def register_tokenizers(config_class: type[PretrainedConfig]) -> None:
    """Let AutoTokenizer make a `ReplitCodeTokenizer` of our folders and of those in replit-code-v1-3b's layout.

    The code that such a folder brings is never run, also with `trust_remote_code=True`, which in transformers goes
    before every registered class: hence the one name in transformers that is replaced here.

    Args:
        config_class: the configuration whose tokenizer it is.
    """
    AutoTokenizer.register(config_class, slow_tokenizer_class=ReplitCodeTokenizer, exist_ok=True)
    AutoTokenizer.register(_PublishedTokenizerConfig, slow_tokenizer_class=ReplitLMTokenizer, exist_ok=True)
    loader: Any = tokenization_auto.get_class_from_dynamic_module
    if not isinstance(loader, functools.partial):
        tokenization_auto.get_class_from_dynamic_module = functools.partial(_own_class_first, loader)


def _own_class_first(loader: Callable[..., Any], class_reference: str, *args: Any, **kwargs: Any) -> Any:
    if class_reference.split("--")[-1] == _PUBLISHED:
        return ReplitLMTokenizer
    return loader(class_reference, *args, **kwargs)
