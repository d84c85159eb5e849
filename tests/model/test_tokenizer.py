"""The transformers tokenizer class: raw sentencepiece ids for every text, and every text comes back."""

import copy
import json
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from transformers import AutoTokenizer, TextStreamer

from codelm.errors import TokenizerError
from codelm.model import ReplitCodeTokenizer

REFERENCE = Path(__file__).parent / "reference"
RECORDED = json.loads((REFERENCE / "tokenizer_legacy.json").read_text(encoding="utf-8"))
"""What the published class gave in the transformers it was written for, for three spiece.model files."""

HOSTILE = [
    "",
    " ",
    "\n",
    "\x00",
    "a\x00b",
    "\r\n\t\r\n",
    "a  b   c" + " " * 61 + "d",
    " " * 3000,
    *("\t" * length for length in (1, 2, 7, 8, 9, 17)),
    "a <= b != c . d , 'e' n't",
    "<|endoftext|>",
    "a <|endoftext|> b <fim_prefix><|pad|><|unk|><0x0A></s>",
    "naïve λ → 日本語 🙂\u200d\u2764\ufe0f e\u0301 \ufeff \ufffd",
    "\u2581 \u2581\u2581 x\u2581y ",
    "\u2028\x85\x0b\x1c\u3000\xa0",
    "x" * 5000,
]

PUBLISHED = {
    "auto_map": {"AutoTokenizer": ["replit_lm_tokenizer.ReplitLMTokenizer", None]},
    "bos_token": None,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|endoftext|>",
    "model_max_length": 2048,
    "pad_token": "<|pad|>",
    "padding_side": "right",
    "sep_token": None,
    "sp_model_kwargs": {},
    "tokenizer_class": "ReplitLMTokenizer",
    "unk_token": "<|unk|>",
}
"""The tokenizer_config.json of replit-code-v1-3b."""


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder) -> ReplitCodeTokenizer:
    return ReplitCodeTokenizer(str(tokenizer_folder / "spiece.model"))


@pytest.fixture
def published(tokenizer_folder, tmp_path) -> Path:
    """A folder in the published layout; whoever runs its Python file leaves a trace."""
    folder = tmp_path / "replit-code-v1-3b"
    folder.mkdir()
    config = {"model_type": "mpt", "auto_map": {"AutoConfig": "configuration_mpt.MPTConfig"}, "vocab_size": 600}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps(PUBLISHED))
    names = {role: PUBLISHED[role] for role in ("eos_token", "pad_token", "unk_token")}
    (folder / "special_tokens_map.json").write_text(json.dumps(names))
    (folder / "spiece.model").write_bytes((tokenizer_folder / "spiece.model").read_bytes())
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w').close()\nraise SystemExit('remote code was run')\n"
    for name in ("replit_lm_tokenizer.py", "configuration_mpt.py"):
        (folder / name).write_text(trap)
    return folder


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
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


def test_a_model_that_normalises_text_gives_what_raw_sentencepiece_gives() -> None:
    file = REFERENCE / "plain-600.spiece.model"
    raw: Any = sentencepiece.SentencePieceProcessor(model_file=str(file))
    tokenizer = ReplitCodeTokenizer(str(file))
    for text in [*HOSTILE, *RECORDED["texts"]]:
        ids = tokenizer(text).input_ids
        assert ids == raw.encode(text)
        assert tokenizer.decode(ids, skip_special_tokens=True) == raw.decode(ids)


def test_a_megabyte_without_a_line_end_takes_seconds(tokenizer) -> None:
    line = "x9_ <|endoftext" * 70_000
    for asked in ({}, {"split_special_tokens": False}):
        start = time.process_time()
        ids = tokenizer(line, **asked).input_ids
        assert tokenizer.decode(ids) == line
        assert time.process_time() - start < 5


def test_a_lone_surrogate_is_refused(tokenizer, published) -> None:
    for refusing in (tokenizer, AutoTokenizer.from_pretrained(published, legacy=True)):
        with pytest.raises(TokenizerError, match=r"lone surrogate \(U\+D800 at character 1\)"):
            refusing("a\ud800b")


def test_special_tokens_have_the_ids_of_the_model(tokenizer) -> None:
    assert (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (0, 1, 2)
    assert tokenizer.bos_token_id is None
    assert tokenizer.convert_tokens_to_ids(["<fim_prefix>", "<file_sep>"]) == [3, 8]
    assert len(tokenizer) == tokenizer.vocab_size == 600


def test_special_text_becomes_tokens_only_when_asked(tokenizer) -> None:
    text = "<fim_prefix> a <|endoftext|>"
    as_text = tokenizer(text).input_ids
    assert set(as_text).isdisjoint(range(9))
    ids = tokenizer(text, split_special_tokens=False).input_ids
    assert (ids[0], ids[-1]) == (3, 1)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, skip_special_tokens=True) == " a "
    assert tokenizer.encode(text, split_special_tokens=False) == ids
    assert tokenizer([text, text]).input_ids == [as_text] * 2
    assert tokenizer([text, "x"], split_special_tokens=False).input_ids[0] == ids
    assert ReplitCodeTokenizer(tokenizer.vocab_file, split_special_tokens=False)(text).input_ids == ids


def test_encoding_a_batch_the_old_way_takes_text_as_text(tokenizer) -> None:
    if not hasattr(super(ReplitCodeTokenizer, tokenizer), "batch_encode_plus"):
        pytest.skip("transformers 5 has no batch_encode_plus")
    text = "a<|endoftext|>"
    assert tokenizer.batch_encode_plus([text]).input_ids == [tokenizer(text).input_ids]


def test_decoding_is_exact_whatever_is_asked_of_it(tokenizer) -> None:
    text = "a <= b != c . d , e n't"
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=True) == text
    assert tokenizer.decode(torch.tensor(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False) == text
    assert "".join(tokenizer.decode(index) for index in ids) == text
    assert tokenizer.batch_decode(tokenizer([text, "x"]).input_ids) == [text, "x"]
    assert tokenizer.convert_tokens_to_string(tokenizer.tokenize(text)) == text


def test_ids_outside_the_vocabulary_are_refused(tokenizer) -> None:
    for wrong in (lambda: tokenizer.decode([600]), lambda: tokenizer.convert_ids_to_tokens([-1])):
        with pytest.raises(TokenizerError, match="outside the vocabulary of 600"):
            wrong()


def test_a_batch_is_padded_on_the_left(tokenizer) -> None:
    batch = tokenizer(["x", "def f(x):\n    return x"], padding=True, return_tensors="pt")
    assert sorted(batch.keys()) == ["attention_mask", "input_ids"]
    assert batch.input_ids[0, 0] == tokenizer.pad_token_id
    assert batch.attention_mask[0].tolist() == [0] * (batch.input_ids.shape[1] - 1) + [1]
    assert tokenizer.batch_decode(batch.input_ids, skip_special_tokens=True) == ["x", "def f(x):\n    return x"]


def test_a_stream_of_single_tokens_shows_every_character_whole(tokenizer) -> None:
    class Shown(TextStreamer):
        text = ""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            self.text += text

    text = "def f():\n\t# naïve 日本語 🙂🙂\n    return 'λ🙂' + 語\n"
    shown = Shown(tokenizer, skip_special_tokens=True)
    for index in tokenizer(text).input_ids:
        shown.put(torch.tensor([index]))
        assert text.startswith(shown.text)
    shown.end()
    assert shown.text == text


def test_it_survives_saving_and_pickling(tokenizer, tmp_path) -> None:
    tokenizer.save_pretrained(tmp_path)
    text = "\u2581 \r\n\t <|endoftext|> 🙂"
    for made in (
        ReplitCodeTokenizer.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
        pickle.loads(pickle.dumps(tokenizer)),
        copy.deepcopy(tokenizer),
    ):
        assert type(made) is ReplitCodeTokenizer
        assert made(text).input_ids == tokenizer(text).input_ids
        assert made.decode(made(text).input_ids) == text
        assert made.all_special_ids == tokenizer.all_special_ids
        assert made.padding_side == "left"


def test_it_works_in_a_data_loaders_workers(tokenizer) -> None:
    loader = DataLoader(HOSTILE[:12], batch_size=None, collate_fn=tokenizer.encode, num_workers=2)  # pyright: ignore[reportArgumentType]
    assert list(loader) == [tokenizer.encode(text) for text in HOSTILE[:12]]


@pytest.mark.parametrize(
    "saved",
    [
        {"additional_special_tokens": ["<fim_prefix>", "<file_sep>"]},
        {"extra_special_tokens": ["<fim_prefix>", "<file_sep>"], "backend": "custom", "is_local": True},
        {"extra_special_tokens": {"first_token": "<fim_prefix>", "last_token": "<file_sep>"}},
    ],
    ids=["4", "5", "a mapping"],
)
def test_a_folder_saved_by_another_transformers_loads(tokenizer_folder, tmp_path, saved) -> None:
    # As both write it; a special token whose id is not the model's is put right.
    misplaced = {"7": {"content": "<|endoftext|>", "lstrip": True, "rstrip": True, "special": True}}
    fields = {"tokenizer_class": "ReplitCodeTokenizer", "added_tokens_decoder": misplaced, **saved}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(fields))
    (tmp_path / "spiece.model").write_bytes((tokenizer_folder / "spiece.model").read_bytes())
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert type(loaded) is ReplitCodeTokenizer
    assert loaded.eos_token_id == 1
    assert loaded("a <fim_prefix> b <|endoftext|> ", split_special_tokens=False).input_ids.count(3) == 1
    assert loaded.decode([3, 1], skip_special_tokens=True) == ""


@pytest.mark.parametrize("trust", [True, False, None])
@pytest.mark.parametrize("legacy", [True, False])
def test_the_published_layout_loads_without_running_its_code(published, tmp_path, trust, legacy) -> None:
    loaded = AutoTokenizer.from_pretrained(published, trust_remote_code=trust, legacy=legacy)
    assert type(loaded) is ReplitCodeTokenizer
    assert loaded.legacy is legacy
    assert (loaded.padding_side, loaded.model_max_length) == ("right", 2048)
    assert (loaded("a<|endoftext|>").input_ids[-1] == 1) is legacy
    loaded.save_pretrained(tmp_path / "saved")
    assert not list((tmp_path / "saved").glob("*.py"))
    assert "auto_map" not in json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    again = AutoTokenizer.from_pretrained(tmp_path / "saved", trust_remote_code=trust)
    assert (type(again), again.legacy, again.padding_side) == (ReplitCodeTokenizer, legacy, "right")
    assert again("a <|endoftext|>").input_ids == loaded("a <|endoftext|>").input_ids
    assert not (tmp_path / "sprung").exists()


def test_remote_code_of_others_is_left_to_transformers(published) -> None:
    other = {**PUBLISHED, "tokenizer_class": "Other", "auto_map": {"AutoTokenizer": ["other.OtherTokenizer", None]}}
    (published / "tokenizer_config.json").write_text(json.dumps(other))
    with pytest.raises(OSError, match=r"other\.py"):
        AutoTokenizer.from_pretrained(published, trust_remote_code=True)


def test_a_special_token_that_the_model_lacks_is_replaced_aloud(tokenizer, caplog) -> None:
    made = ReplitCodeTokenizer(tokenizer.vocab_file, pad_token="<|absent|>", eos_token="<file_sep>")
    assert (made.pad_token_id, made.eos_token_id) == (2, 8)
    assert "has no piece '<|absent|>'; its pad_token is '<|pad|>'" in caplog.text


@pytest.mark.parametrize("name", RECORDED["models"])
class TestTheLegacyForm:
    """Everything recorded from the published class, letter for letter."""

    @pytest.fixture
    def recorded(self, name) -> dict[str, Any]:
        return RECORDED["models"][name]

    @pytest.fixture
    def legacy(self, recorded, tmp_path) -> ReplitCodeTokenizer:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(PUBLISHED))
        (tmp_path / "spiece.model").write_bytes((REFERENCE / recorded["file"]).read_bytes())
        return AutoTokenizer.from_pretrained(tmp_path, legacy=True)

    def test_texts_have_its_ids_and_come_back_as_it_wrote_them(self, legacy, recorded) -> None:
        assert len(recorded["encoded"]) == len(RECORDED["texts"]) > 200
        for text, expected in zip(RECORDED["texts"], recorded["encoded"], strict=True):
            ids = legacy(text).input_ids
            assert ids == expected["ids"], ascii(text)
            assert legacy.decode(ids) == expected["decoded"]
            assert legacy.decode(ids, skip_special_tokens=True) == expected["decoded_skip_special"]

    def test_ids_are_decoded_as_it_did(self, legacy, recorded) -> None:
        for expected in recorded["id_sequences"]:
            assert legacy.decode(expected["ids"]) == expected["decoded"]
            assert legacy.decode(expected["ids"], skip_special_tokens=True) == expected["decoded_skip_special"]

    def test_a_batch_and_the_special_tokens_are_its_own(self, legacy, recorded) -> None:
        batch = legacy(recorded["batch"]["texts"], padding=True)
        assert batch.input_ids == recorded["batch"]["input_ids"]
        assert batch.attention_mask == recorded["batch"]["attention_mask"]
        assert set(legacy.all_special_tokens) == set(recorded["all_special_tokens"])
        assert legacy.padding_side == recorded["padding_side"]
        assert legacy.vocab_size == recorded["vocab_size"]
        ids = {role: getattr(legacy, f"{role}_token_id") for role in recorded["special_ids"]}
        assert ids == recorded["special_ids"]


def test_legacy_form_makes_tokens_of_special_text_and_eats_whitespace(tokenizer, published) -> None:
    legacy = AutoTokenizer.from_pretrained(published, legacy=True)
    assert legacy("x \n<|endoftext|>\t y").input_ids == [*legacy("x").input_ids, 1, *legacy("y").input_ids]
    assert legacy.decode([*legacy("x").input_ids, 1, 2]) == "x"
    assert legacy.decode(legacy("\u2581").input_ids) == " "
    assert pickle.loads(pickle.dumps(legacy))("x <|endoftext|>").input_ids == legacy("x <|endoftext|>").input_ids


def test_the_vocabulary_is_fixed(tokenizer) -> None:
    with pytest.raises(TokenizerError, match="'<new>' cannot be added"):
        tokenizer.add_tokens(["<new>"])


def test_sampling_is_refused(tokenizer) -> None:
    with pytest.raises(TokenizerError, match="sp_model_kwargs cannot be set"):
        ReplitCodeTokenizer(tokenizer.vocab_file, sp_model_kwargs={"enable_sampling": True})


def test_a_file_that_is_no_model_is_refused(tmp_path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"torn")
    with pytest.raises(TokenizerError, match="no SentencePiece model"):
        ReplitCodeTokenizer(str(tmp_path / "spiece.model"))
