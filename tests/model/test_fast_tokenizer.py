"""tokenizer.json: loads in transformers, loses no text, and its difference from sentencepiece is what is written."""

import json
import sysconfig
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from codelm.errors import TokenizerError
from codelm.model import ReplitCodeTokenizer
from codelm.model.fast_tokenizer import (
    Mismatch,
    fast_tokenizer_json,
    measure_mismatch,
    sample_texts,
    write_fast_tokenizer,
)
from codelm.model.saving import save_transformers
from codelm.tokenizer import CodeTokenizer

TEXTS = [
    "def f(x):\n\treturn x + 1\n",
    "",
    "\x00 \r\n",
    "x\u2581 \u2581\u2581y",
    "naïve λ → 日本語 🙂\u200d e\u0301",
    "<0x0A> <|unk|>",
    "a <= b != c",
]


@pytest.fixture(scope="module")
def exact(tokenizer_folder) -> CodeTokenizer:
    return CodeTokenizer(tokenizer_folder)


@pytest.fixture(scope="module")
def fast(tokenizer_folder) -> Tokenizer:
    tokenizer = Tokenizer.from_str(fast_tokenizer_json((tokenizer_folder / "spiece.model").read_bytes()))
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.mark.parametrize("text", [*TEXTS, "<|endoftext|>", "<fim_prefix>a<file_sep>"])
def test_it_gives_sentencepieces_ids_also_for_text_that_looks_special(exact, fast, text) -> None:
    assert fast.encode(text).ids == exact.encode(text)


def test_real_files_come_back_exactly(fast) -> None:
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[20:40]:
        text = path.read_bytes().decode()
        assert fast.decode(fast.encode(text).ids) == text


def test_the_mismatch_counts_the_texts_whose_ids_differ(exact, fast) -> None:
    texts, corpus = sample_texts(count=40)
    differing = [text for text in texts if fast.encode(text).ids != exact.encode(text)]
    mismatch = measure_mismatch(exact, fast, texts, corpus)
    assert mismatch == Mismatch(corpus, len(texts), len(differing), sum(len(text.encode()) for text in texts))
    assert len(texts) > 30


def test_two_different_tokenizers_are_seen_to_differ(exact, tokenizer_folder) -> None:
    fields = json.loads(fast_tokenizer_json((tokenizer_folder / "spiece.model").read_bytes()))
    longest = max(exact.encode("import os"), key=lambda index: exact.token_bytes()[index])
    fields["model"]["vocab"][longest][1] = -1e6
    other = Tokenizer.from_str(json.dumps(fields))
    assert measure_mismatch(exact, other, ["import os", "\n"], "two words").differing == 1


def test_transformers_loads_it_and_treats_special_text_as_text(exact, tmp_path) -> None:
    exact.save(tmp_path)
    mismatch = write_fast_tokenizer(exact, tmp_path, max_seq_len=64)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*TEXTS, "a <|endoftext|> b"]:
        ids = loaded(text)["input_ids"]
        assert ids == exact.encode(text)
        assert loaded.decode(ids) == text
    assert (loaded.unk_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 1, 2)
    assert sorted(loaded("x")) == ["attention_mask", "input_ids"]
    assert Mismatch(**json.loads((tmp_path / "tokenizer_mismatch.json").read_text())) == mismatch


FOREIGN: dict[str, dict[str, Any]] = {
    "without byte fallback": {"normalization_rule_name": "identity", "add_dummy_prefix": False},
    "dummy prefix": {"normalization_rule_name": "identity", "byte_fallback": True, "remove_extra_whitespaces": False},
    "nmt_nfkc": {"normalization_rule_name": "nmt_nfkc", "byte_fallback": True},
    "nmt_nfkc and newlines": {"byte_fallback": True, "user_defined_symbols": ["\t", "\n"]},
}
"""Models trained elsewhere, which change text before they split it."""


def train_elsewhere(file: Path, **options: Any) -> CodeTokenizer:
    texts = [path.read_bytes().decode() for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:5]]
    with file.open("wb") as writer:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=(line for text in texts for line in text.splitlines()),
            model_writer=writer,
            vocab_size=500,
            eos_piece="<|endoftext|>",
            minloglevel=2,
            **options,
        )
    return CodeTokenizer(file.parent)


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_model_that_changes_text_is_imitated_and_the_mismatch_is_true(kind, tmp_path) -> None:
    exact = train_elsewhere(tmp_path / "spiece.model", **FOREIGN[kind])
    mismatch = write_fast_tokenizer(exact, tmp_path, max_seq_len=64)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    for text in ["def f(x):\n    return  x", "x\u2581y", "", "<|endoftext|>", "ﬁ λ ① #  x"]:
        ids = loaded(text)["input_ids"]
        assert ids == exact.encode(text)
        if exact.unk_id not in ids:
            assert loaded.decode(ids) == exact.decode(ids)
    texts, _ = sample_texts()
    assert sum(loaded(text)["input_ids"] != exact.encode(text) for text in texts) == mismatch.differing
    assert len(texts) == mismatch.files


def test_none_is_written_where_most_files_would_differ(tmp_path) -> None:
    exact = train_elsewhere(tmp_path / "spiece.model", byte_fallback=True, user_defined_symbols=["  ", "\n"])
    with pytest.raises(TokenizerError, match=r"differs from sentencepiece on \d+ of \d+ files .* too many"):
        write_fast_tokenizer(exact, tmp_path, max_seq_len=64)
    assert [path.name for path in tmp_path.iterdir()] == ["spiece.model"]


def test_a_model_is_saved_all_the_same_with_the_exact_tokenizer(make_model, tmp_path, caplog) -> None:
    exact = train_elsewhere(tmp_path / "spiece.model", model_type="bpe", byte_fallback=True)
    model = make_model()
    save_transformers(model, model.config, tmp_path, tmp_path / "saved")
    assert "without tokenizer.json" in caplog.text
    assert not (tmp_path / "saved" / "tokenizer.json").exists()
    loaded = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert type(loaded) is ReplitCodeTokenizer
    assert loaded("def f(x):").input_ids == exact.encode("def f(x):")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda proto: setattr(proto.trainer_spec, "model_type", 2), "is no Unigram model"),
        (lambda proto: setattr(proto.trainer_spec, "treat_whitespace_as_suffix", True), "puts spaces behind words"),
        (lambda proto: setattr(proto.normalizer_spec, "escape_whitespaces", False), "does not mark spaces"),
        (lambda proto: setattr(proto.denormalizer_spec, "precompiled_charsmap", b"x"), "when it decodes"),
    ],
)
def test_a_model_it_would_get_wrong_is_refused(tokenizer_folder, change, reason) -> None:
    proto = sentencepiece_model_pb2.ModelProto.FromString((tokenizer_folder / "spiece.model").read_bytes())
    change(proto)
    with pytest.raises(TokenizerError, match=reason):
        fast_tokenizer_json(proto.SerializeToString())
