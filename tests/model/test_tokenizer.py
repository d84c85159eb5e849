"""The transformers tokenizer class: raw sentencepiece ids for every text, and every text comes back."""

import pickle

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from codelm.errors import TokenizerError
from codelm.model import ReplitCodeTokenizer

HOSTILE = [
    "",
    " ",
    "\n",
    "\x00",
    "\r\n\t\r\n",
    "a  b   c" + " " * 61 + "d",
    *("\t" * length for length in (1, 2, 7, 8, 9, 17)),
    "a <= b != c . d , 'e' n't",
    "<|endoftext|>",
    "a <|endoftext|> b <fim_prefix><|pad|><|unk|><0x0A>",
    "naïve λ → 日本語 🙂\u200d\u2764\ufe0f e\u0301 \ufeff \ufffd",
    "\u2581 \u2581\u2581 x\u2581y ",
    "x" * 5000,
]


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder) -> ReplitCodeTokenizer:
    return ReplitCodeTokenizer(str(tokenizer_folder / "spiece.model"))


@pytest.mark.parametrize("text", HOSTILE)
def test_text_becomes_sentencepieces_ids_and_comes_back(tokenizer, text) -> None:
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert not set(ids) & {tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    if "\u2581" not in text:
        raw = sentencepiece.SentencePieceProcessor(model_file=tokenizer.vocab_file)
        assert ids == raw.encode(text)


@given(st.text())
@settings(max_examples=200, deadline=None)
def test_any_text_comes_back(tokenizer, text) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_lone_surrogate_is_refused(tokenizer) -> None:
    with pytest.raises(TokenizerError, match="surrogate"):
        tokenizer("a\ud800b")


def test_special_tokens_have_the_ids_of_the_model(tokenizer) -> None:
    assert (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
    assert tokenizer.bos_token_id is None
    assert tokenizer.convert_tokens_to_ids(["<fim_prefix>", "<file_sep>"]) == [3, 8]
    assert len(tokenizer) == tokenizer.vocab_size == 600


def test_special_text_becomes_tokens_only_when_asked(tokenizer) -> None:
    text = "<fim_prefix>a<|endoftext|>"
    assert set(tokenizer(text).input_ids).isdisjoint(range(9))
    ids = tokenizer(text, split_special_tokens=False).input_ids
    assert (ids[0], ids[-1]) == (3, 1)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a"


def test_decoding_is_exact_whatever_is_asked_of_it(tokenizer) -> None:
    text = "a <= b != c . d , e n't"
    assert tokenizer.decode(tokenizer(text).input_ids, clean_up_tokenization_spaces=True) == text
    assert tokenizer.batch_decode(tokenizer([text, "x"]).input_ids) == [text, "x"]
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)) == text


def test_a_batch_is_padded_on_the_left(tokenizer) -> None:
    batch = tokenizer(["x", "def f(x):\n    return x"], padding=True, return_tensors="pt")
    assert sorted(batch.keys()) == ["attention_mask", "input_ids"]
    assert batch.input_ids[0, 0] == tokenizer.pad_token_id
    assert batch.attention_mask[0].tolist() == [0] * (batch.input_ids.shape[1] - 1) + [1]


def test_it_survives_saving_and_pickling(tokenizer, tmp_path) -> None:
    tokenizer.save_pretrained(tmp_path)
    text = HOSTILE[-3]
    for copy in (
        ReplitCodeTokenizer.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert type(copy) is ReplitCodeTokenizer
        assert copy(text).input_ids == tokenizer(text).input_ids
        assert copy.decode(copy(text).input_ids) == text
        assert copy.all_special_ids == tokenizer.all_special_ids


def test_the_vocabulary_is_fixed(tokenizer) -> None:
    with pytest.raises(TokenizerError, match="'<new>' cannot be added"):
        tokenizer.add_tokens(["<new>"])


def test_a_file_that_is_no_model_is_refused(tmp_path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"torn")
    with pytest.raises(TokenizerError, match="no SentencePiece model"):
        ReplitCodeTokenizer(str(tmp_path / "spiece.model"))
