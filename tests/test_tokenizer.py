"""The tokenizer: every text comes back, ids are SentencePiece's own, and another tokenizer is noticed."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codelm.errors import TokenizerError
from codelm.tokenizer import (
    EOS,
    PROBE,
    SPECIAL_PIECES,
    CodeTokenizer,
    Fingerprint,
    JsonTokenizer,
    load_tokenizer,
)
from codelm.tokenizer_training import train_tokenizer

STDLIB = Path(sysconfig.get_path("stdlib"))
VOCABULARY = 700


def library_files(number: int) -> list[str]:
    return [path.read_bytes().decode() for path in sorted(STDLIB.glob("*.py"))[:number]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CodeTokenizer:
    return train_tokenizer(library_files(25), VOCABULARY, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> JsonTokenizer:
    """A byte-level BPE as SmolLM2 and GPT-2 have it, made by the `tokenizers` library itself."""
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=900, special_tokens=[EOS, "<pad>"], initial_alphabet=alphabet)
    model.train_from_iterator(library_files(10), trainer)
    model.add_special_tokens(["<fim_prefix>"])
    model.add_tokens(["  added text"])
    folder = tmp_path_factory.mktemp("bpe")
    model.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": EOS, "pad_token": {"content": "<pad>"}}))
    return JsonTokenizer(folder)


@pytest.fixture(scope="module")
def exported(trained: CodeTokenizer, tmp_path_factory: pytest.TempPathFactory) -> JsonTokenizer:
    """The tokenizer.json that goes with every checkpoint, without its spiece.model."""
    from codelm.model.fast_tokenizer import write_fast_tokenizer

    folder = tmp_path_factory.mktemp("exported")
    trained.save(folder)
    write_fast_tokenizer(trained, folder, 512)
    (folder / "spiece.model").unlink()
    return JsonTokenizer(folder)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> JsonTokenizer:
    """As CodeLlama has it: BPE over U+2581 for spaces, one in front of every text, and bytes for what is unknown."""
    decoders, normalizers = tokenizers.decoders, tokenizers.normalizers
    model = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    model.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    model.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=700, special_tokens=pieces, max_token_length=8)
    model.train_from_iterator((line for text in library_files(3) for line in text.splitlines()), trainer)
    # The trainer makes specials of all of them; of a real file only the first three are.
    fields = json.loads(model.to_str())
    fields["added_tokens"] = fields["added_tokens"][:3]
    folder = tmp_path_factory.mktemp("llama")
    (folder / "tokenizer.json").write_text(json.dumps(fields))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return JsonTokenizer(folder)


@pytest.fixture(scope="module", params=["trained", "bpe", "exported"])
def tokenizer(request: pytest.FixtureRequest) -> CodeTokenizer | JsonTokenizer:
    return request.getfixturevalue(request.param)


AWKWARD = [
    "",
    " ",
    "\n",
    "\t",
    "\r\n",
    "\0",
    "a\0b",
    "  leading and trailing  ",
    " " * 1000,
    "\t" * 37 + "x" + "\t \t \n\n\n\n\r\r",
    "\u2581",
    "a\u2581 \u2581b\u2581\u2581",
    "\ufeffint x;",
    "\ufffd\ufffe\u2028\x85\x0b\x0c\x1c",
    "naïve ﬁ Å Å ½ ①",
    "日本語のコメント 🙂👩‍👩‍👧‍👦 🇫🇷",
    "x" * 5000,
    "0123456789" * 50,
    PROBE,
    *(piece + " x" for piece in (*SPECIAL_PIECES, EOS, "<|pad|>", "<|unk|>", "<0x41>", "<s>", "  added text")),
]


@pytest.mark.parametrize("text", AWKWARD, ids=lambda text: ascii(text[:20]))
def test_every_text_comes_back(tokenizer: CodeTokenizer | JsonTokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(ids, keep_special=True) == text
    assert tokenizer.token_bytes()[ids].sum() == len(text.encode())


@given(st.text())
@example("\u2581" * 3 + "\t\t \x00")
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back(trained: CodeTokenizer, text: str) -> None:
    assert trained.decode(trained.encode(text)) == text


@given(st.text(st.sampled_from("ab1 \t\n\r\u2581<|>_()é🙂")))
@settings(max_examples=300, deadline=None)
def test_texts_of_code_like_characters_come_back(trained: CodeTokenizer, bpe: JsonTokenizer, text: str) -> None:
    assert trained.decode(trained.encode(text)) == text
    assert bpe.decode(bpe.encode(text)) == text


def test_real_files_come_back_and_a_megabyte_without_a_space_too(trained: CodeTokenizer) -> None:
    for text in [*library_files(60), "x9_" * 350_000]:
        ids = trained.encode(text)
        assert trained.decode(ids) == text
        assert trained.token_bytes()[ids].sum() == len(text.encode())


FOREIGN: dict[str, dict[str, Any]] = {
    "without byte fallback": {"normalization_rule_name": "identity", "add_dummy_prefix": False},
    "dummy prefix": {"normalization_rule_name": "identity", "byte_fallback": True, "remove_extra_whitespaces": False},
    "nmt_nfkc": {"normalization_rule_name": "nmt_nfkc", "byte_fallback": True, "user_defined_symbols": ["\t", "\n"]},
    "nmt_nfkc without byte fallback": {"normalization_rule_name": "nmt_nfkc"},
    "bpe": {"model_type": "bpe", "normalization_rule_name": "nmt_nfkc_cf", "byte_fallback": True},
}


@pytest.fixture(scope="module", params=FOREIGN)
def foreign(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> CodeTokenizer:
    """A model trained elsewhere, with sentencepiece's own habits."""
    file = tmp_path_factory.mktemp("foreign") / "spiece.model"
    with file.open("wb") as writer:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=(line for text in library_files(5) for line in text.splitlines()),
            model_writer=writer,
            vocab_size=500,
            eos_piece=EOS,
            unk_piece="<|unk|>",
            minloglevel=2,
            **FOREIGN[request.param],
        )
    return CodeTokenizer(file)


def bare_sentencepiece(tokenizer: CodeTokenizer) -> Any:
    file = tokenizer.path / "spiece.model" if tokenizer.path.is_dir() else tokenizer.path
    return sentencepiece.SentencePieceProcessor(model_file=str(file))


def test_ids_are_those_of_bare_sentencepiece(trained: CodeTokenizer) -> None:
    bare = bare_sentencepiece(trained)
    for text in [*library_files(60), *AWKWARD]:
        if "\u2581" not in text:
            assert trained.encode(text) == bare.encode(text)
            assert trained.decode(trained.encode(text)) == bare.decode(bare.encode(text))


@pytest.mark.parametrize("text", AWKWARD, ids=lambda text: ascii(text[:20]))
def test_a_model_that_loses_text_loses_what_bare_sentencepiece_loses(foreign: CodeTokenizer, text: str) -> None:
    bare = bare_sentencepiece(foreign)
    ids = foreign.encode(text)
    assert ids == bare.encode(text)
    assert foreign.decode(ids) == bare.decode(ids)


@given(st.text() | st.text(st.sampled_from("ab \t\n\u2581<|>eﬁ①🙂")))
@settings(max_examples=200, deadline=None)
def test_such_a_model_is_bare_sentencepiece_for_any_text(foreign: CodeTokenizer, text: str) -> None:
    bare = bare_sentencepiece(foreign)
    ids = foreign.encode(text)
    assert ids == bare.encode(text)
    assert foreign.decode(ids) == bare.decode(ids) == foreign.decode([*ids, foreign.eos_id])
    assert foreign.decode([foreign.eos_id, *ids, foreign.eos_id], keep_special=True) == EOS + bare.decode(ids) + EOS


def test_a_foreign_model_is_known_to_lose_text(foreign: CodeTokenizer, trained: CodeTokenizer) -> None:
    assert trained.lossless
    assert not foreign.lossless


def test_bpe_ids_are_those_of_the_library_and_real_files_come_back(bpe: JsonTokenizer) -> None:
    library = tokenizers.Tokenizer.from_file(str(bpe.path / "tokenizer.json"))
    for text in library_files(10):
        ids = bpe.encode(text)
        assert ids == library.encode(text, add_special_tokens=False).ids
        assert bpe.decode(ids) == text == library.decode(ids)


def test_a_json_with_byte_pieces_is_decoded_by_the_library(llama: JsonTokenizer) -> None:
    library = tokenizers.Tokenizer.from_file(str(llama.path / "tokenizer.json"))
    for text in [*library_files(3), "naïve é 日本語 🙂\n\t x", "  indented"]:
        ids = llama.encode(text)
        assert llama.decode(ids) == text == library.decode(ids)
        assert llama.decode([*ids, llama.eos_id]) == text
        assert llama.decode([*ids, llama.eos_id], keep_special=True) == text + "</s>"
        # The space in front, which decoding takes off again, is one of its tokens.
        assert llama.token_bytes()[ids].sum() == len(text.encode()) + 1
    assert llama.decode(llama.encode("🙂")[:-1]).strip("\ufffd") == ""


def test_what_is_generated_keeps_its_first_space(llama: JsonTokenizer, foreign: CodeTokenizer) -> None:
    """A completion is no text of its own: what looks like the space in front of one is the prompt's next character."""
    for tokenizer in (llama, foreign):
        ids = tokenizer.encode("return self")
        for at in range(1, len(ids)):
            assert tokenizer.decode(ids[:at]) + tokenizer.decode_behind(ids[at:]) == "return self"


def test_behind_other_text_a_lossless_tokenizer_decodes_as_always(tokenizer: CodeTokenizer | JsonTokenizer) -> None:
    ids = tokenizer.encode("    return self")
    assert tokenizer.decode_behind(ids) == tokenizer.decode(ids) == "    return self"
    assert tokenizer.decode_behind([]) == ""


def test_text_never_becomes_a_special_token(tokenizer: CodeTokenizer | JsonTokenizer) -> None:
    special = {tokenizer.eos_id, tokenizer.pad_id, *tokenizer.special_ids.values()}
    text = " ".join([EOS, "<|pad|>", "<pad>", *SPECIAL_PIECES])
    assert not special & set(tokenizer.encode(text))


def test_special_tokens_vanish_or_are_written_out(trained: CodeTokenizer) -> None:
    ids = [*trained.encode("a"), trained.special_ids["fim_middle"], *trained.encode(" b"), trained.eos_id]
    assert trained.decode(ids) == "a b"
    assert trained.decode(ids, keep_special=True) == f"a<fim_middle> b{EOS}"


def test_a_character_cut_in_two_becomes_a_replacement_character(trained: CodeTokenizer) -> None:
    assert trained.decode(trained.encode("🙂")[:-1]) == "\ufffd"


def test_reserved_ids(trained: CodeTokenizer) -> None:
    assert (trained.unk_id, trained.eos_id, trained.pad_id) == (0, 1, 2)
    names = ["fim_prefix", "fim_suffix", "fim_middle", "fim_pad", "repo_name", "file_sep"]
    assert trained.special_ids == {name: index for index, name in enumerate(names, 3)}
    assert trained.vocab_size == VOCABULARY == len(trained.token_bytes())
    assert trained.token_bytes().dtype == np.int32


def test_newlines_and_tabs_cost_at_most_a_token_each(trained: CodeTokenizer) -> None:
    assert len(trained.encode("\n")) == len(trained.encode("\t")) == len(trained.encode("\t" * 8)) == 1


def test_digits_are_split(trained: CodeTokenizer) -> None:
    assert len(trained.encode("12345")) == 5


@pytest.mark.parametrize("bad", [-1, VOCABULARY, 10**9])
def test_ids_outside_the_vocabulary_are_refused(trained: CodeTokenizer, bad: int) -> None:
    with pytest.raises(TokenizerError, match="outside the vocabulary of 700"):
        trained.decode([5, bad])


def test_lone_surrogates_are_refused_with_their_place(tokenizer: CodeTokenizer | JsonTokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"U\+DC80 at character 2"):
        tokenizer.encode("ab\udc80\u2581")


def test_the_same_texts_train_the_same_model(tmp_path: Path) -> None:
    texts = library_files(8)
    first = train_tokenizer(texts, 400, tmp_path / "a")
    second = train_tokenizer(iter(texts), 400, tmp_path / "b")
    other = train_tokenizer(texts[1:], 400, tmp_path / "c")
    assert (tmp_path / "a" / "spiece.model").read_bytes() == (tmp_path / "b" / "spiece.model").read_bytes()
    assert first.fingerprint() == second.fingerprint()
    assert not first.fingerprint().matches(other.fingerprint())


def test_long_texts_without_a_space_are_trained_on(tmp_path: Path) -> None:
    """SentencePiece alone leaves out texts above a length, and aborts the process on such a one below it."""
    letters = np.random.default_rng(0).integers(97, 123, 150_000, dtype=np.uint8).tobytes().decode()
    trained = train_tokenizer([letters, *library_files(3), "ω" * 3000], 400, tmp_path)
    assert len(trained.encode("ω")) == 1


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [([], "there is no text"), (["few"], "1 texts are too few for a vocabulary of 5000; set vocab_size to at most")],
)
def test_too_little_text_is_refused(tmp_path: Path, texts: list[str], sentence: str) -> None:
    with pytest.raises(TokenizerError, match=sentence):
        train_tokenizer(texts, 5000, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_too_small_for_the_characters_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"set vocab_size to at least 3\d\d"):
        train_tokenizer(library_files(3), 280, tmp_path)


def test_save_and_load_keep_the_fingerprint(tokenizer: CodeTokenizer | JsonTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(tokenizer)
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert (loaded.eos_id, loaded.pad_id) == (tokenizer.eos_id, tokenizer.pad_id)
    assert loaded.lossless
    stored = Fingerprint.from_dict(json.loads((tmp_path / "fingerprint.json").read_text()))
    assert stored == tokenizer.fingerprint()


def test_a_library_that_reads_the_same_model_differently_is_noticed(trained: CodeTokenizer) -> None:
    mine = trained.fingerprint()
    newer = Fingerprint(**{**mine.to_dict(), "library": "sentencepiece 0.2.3"})  # type: ignore[arg-type]
    assert mine.matches(newer)
    different = Fingerprint(**{**newer.to_dict(), "probe_sha256": "0" * 64})  # type: ignore[arg-type]
    assert not mine.matches(different)
    assert "sentencepiece 0.2.3" in mine.difference(different)


def test_the_probe_has_runs_of_spaces_of_every_width() -> None:
    """SentencePiece 0.2.2 breaks ties in such runs differently from 0.2.1."""
    assert all(f"\n{' ' * width}x{' ' * (40 - width)}#" in PROBE for width in range(41))


@pytest.mark.parametrize(
    ("contents", "sentence"),
    [
        ({}, "holds neither spiece.model nor tokenizer.json"),
        ({"spiece.model": b""}, "no SentencePiece model"),
        ({"spiece.model": b"\x00garbage" * 99}, "no SentencePiece model"),
        ({"tokenizer.json": b"{"}, "no tokenizer.json that"),
        ({"tokenizer.json": b'{"model": 1}'}, "no tokenizer.json that"),
    ],
)
def test_damaged_tokenizers_are_refused(tmp_path: Path, contents: dict[str, bytes], sentence: str) -> None:
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(TokenizerError, match=sentence):
        load_tokenizer(tmp_path)


def test_an_absent_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"there is no tokenizer at .*nowhere"):
        load_tokenizer(tmp_path / "nowhere")


def test_a_truncated_model_is_refused(trained: CodeTokenizer, tmp_path: Path) -> None:
    whole = (trained.path / "spiece.model").read_bytes()
    trained.save(tmp_path)
    for length in (1, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "spiece.model").write_bytes(whole[:length])
        with pytest.raises(TokenizerError):
            load_tokenizer(tmp_path)


def test_a_model_swapped_under_its_fingerprint_is_refused(trained: CodeTokenizer, tmp_path: Path) -> None:
    other = train_tokenizer(library_files(8), 400, tmp_path)
    assert other.vocab_size == 400
    (tmp_path / "spiece.model").write_bytes((trained.path / "spiece.model").read_bytes())
    with pytest.raises(TokenizerError, match=r"is not the one its fingerprint\.json was written for"):
        load_tokenizer(tmp_path)


def test_a_json_tokenizer_without_an_end_of_text_token_is_refused(bpe: JsonTokenizer, tmp_path: Path) -> None:
    text = (bpe.path / "tokenizer.json").read_text().replace(EOS, "<|nothing|>")
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(TokenizerError, match=r"put its tokenizer_config\.json beside it"):
        load_tokenizer(tmp_path)


def test_loading_needs_neither_torch_nor_transformers(trained: CodeTokenizer) -> None:
    script = (
        "import sys; from codelm.tokenizer import load_tokenizer; load_tokenizer(sys.argv[1]).encode('x')\n"
        "assert not {'torch', 'transformers', 'tokenizers', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(trained.path)], check=True)
