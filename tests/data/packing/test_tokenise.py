"""Tokenising a partition: exact ids, loss masks on character borders, repositories together, no file lost."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.config.data import ContextSection
from codelm.data.documents import Document
from codelm.data.packing.pack import read_documents
from codelm.data.packing.packers import TokenDocument
from codelm.data.packing.tokenise import TokeniseTask, encode_document, encode_trained, tokenise_partition
from codelm.data.select import LEFT_OUT
from codelm.data.store import DocumentWriter
from codelm.tokenizer import CodeTokenizer
from codelm.tokenizer_training import train_tokenizer

UINT16 = np.dtype(np.uint16)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> CodeTokenizer:
    texts = [path.read_text() for path in sorted((code_folder / "json").glob("*.py"))]
    return train_tokenizer(texts, 500, tmp_path_factory.mktemp("tokenizer"))


def document(text: str, path: str = "a.py", repository: str = "r", **fields: Any) -> Document:
    known = {"commit": None, "language": "python", "licence": "MIT", "blob": "b", "digest": path.encode()[:16]}
    return Document(text=text, path=path, repository=repository, **{**known, **fields})


def tokenise(folder: Path, tokenizer: CodeTokenizer, documents: list[Document], **options: Any) -> Path:
    (folder / "documents").mkdir()
    writer = DocumentWriter(folder / "documents")
    for one in documents:
        writer.write(one)
    writer.close()
    split = options.pop("split", np.zeros(len(documents), np.uint8))
    task = TokeniseTask(folder / "documents", folder / "tokens", tokenizer.path, folder / "scratch", split, **options)
    tokenise_partition(task)
    return folder / "tokens"


def read(folder: Path, name: str = "train.python", masked: bool = False) -> list[TokenDocument]:
    return list(read_documents(folder, name, UINT16, masked))


def test_every_document_is_its_ids_and_the_end_of_text(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    texts = ["x = 1\n", "a \u2581 b 日本 <|endoftext|>\x00\r\n", "\t\ty"]
    folder = tokenise(tmp_path, tokenizer, [document(text, f"{n}.py") for n, text in enumerate(texts)])
    found = read(folder)
    assert [one.tokens.tolist() for one in found] == [[*tokenizer.encode(t), tokenizer.eos_id] for t in texts]
    assert [one.files[0]["bytes"] for one in found] == [len(text.encode()) for text in texts]
    assert not (folder / "train.python.mask").exists()


def test_streams_are_split_and_language_and_what_is_left_out_is_nowhere(
    tmp_path: Path, tokenizer: CodeTokenizer
) -> None:
    documents = [document("a"), document("b"), document("c", language="c"), document("d")]
    folder = tokenise(tmp_path, tokenizer, documents, split=np.array([0, 1, 0, LEFT_OUT], np.uint8))
    assert sorted(path.name for path in folder.glob("*.jsonl")) == [
        "train.c.jsonl",
        "train.python.jsonl",
        "validation.python.jsonl",
    ]
    assert [len(read(folder, name)) for name in ("train.python", "validation.python", "train.c")] == [1, 1, 1]


def test_large_vocabularies_take_four_bytes(tokenizer: CodeTokenizer) -> None:
    ids = encode_document(tokenizer, "x = 1", np.dtype(np.uint32))
    assert ids.dtype == np.uint32
    assert ids.tolist() == [*tokenizer.encode("x = 1"), tokenizer.eos_id]
    assert encode_trained(tokenizer, "x = 1", [[0, 5]], np.dtype(np.uint32))[0].dtype == np.uint32


TEXT = st.text(alphabet=st.sampled_from("ab cd\n:(é🙂"), min_size=1, max_size=40)


@given(TEXT, st.lists(st.integers(0, 40), max_size=6))
@settings(max_examples=200, deadline=None)
def test_no_token_is_on_both_sides_of_a_trained_range(tokenizer: CodeTokenizer, text: str, borders: list[int]) -> None:
    places = sorted({min(border, len(text)) for border in borders})
    trained = [[first, end] for first, end in zip(places[::2], places[1::2], strict=False)]
    ids, mask = encode_trained(tokenizer, text, trained, UINT16)
    assert len(ids) == len(mask)
    assert tokenizer.decode(ids) == text
    inside = np.zeros(len(text), dtype=bool)
    for first, end in trained:
        inside[first:end] = True
    per_byte = np.repeat(inside, [len(character.encode()) for character in text])
    sizes = tokenizer.token_bytes()[list(ids)[:-1]]
    np.testing.assert_array_equal(np.repeat(np.frombuffer(mask, np.uint8)[:-1], sizes), per_byte)
    after_last = text[trained[-1][1] :].strip() if trained else "x"
    assert mask[-1] == (not after_last)


def test_masks_cover_the_documents_before_and_after(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    documents = [
        document("plain = 1\n"),
        document("ask\nanswer\n", trained=((4, 11),)),
        document("more = 2\n"),
        document("ask\nanswer\nask", trained=((4, 10),)),
        document("nothing", trained=()),
    ]
    folder = tokenise(tmp_path, tokenizer, documents)
    found = read(folder, masked=True)
    masks = [one.loss_mask for one in found if one.loss_mask is not None]
    texts = [tokenizer.decode(one.tokens[mask == 1]) for one, mask in zip(found, masks, strict=True)]
    assert texts == ["plain = 1\n", "answer\n", "more = 2\n", "answer", ""]
    assert [int(mask[-1]) for mask in masks] == [1, 1, 1, 0, 0]


def test_a_repository_is_one_document_and_conversations_stay_alone(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    documents = [
        document("import c\n", "b.py", "one"),
        document("two", "x.py", "two"),
        document("c = 1\n", "c.py", "one"),
        document("ask", "q", "one", trained=((0, 3),), language="python"),
        document("int x;\n", "d.c", "one", language="c"),
    ]
    section = ContextSection(by_repository=True, order="dependency")
    folder = tokenise(tmp_path, tokenizer, documents, context=section)
    shown = [tokenizer.decode(one.tokens, keep_special=True) for one in read(folder)]
    end = "<|endoftext|>"
    assert shown == [
        f"ask{end}",
        f"<repo_name>one<file_sep>c.py\nc = 1\n<file_sep>b.py\nimport c\n{end}",
        f"<repo_name>two<file_sep>x.py\ntwo{end}",
    ]
    assert [[file["path"] for file in one.files] for one in read(folder)] == [["q"], ["c.py", "b.py"], ["x.py"]]
    for one in read(folder):
        assert sum(file["tokens"] for file in one.files) == len(one.tokens)
    assert [file["path"] for one in read(folder, "train.c") for file in one.files] == ["d.c"]


def test_path_comments_go_to_their_share_of_files(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    documents = [document(f"x = {n}\n", f"m{n}.py") for n in range(60)]
    folder = tokenise(tmp_path, tokenizer, documents, context=ContextSection(path_comments=0.5))
    shown = [tokenizer.decode(one.tokens) for one in read(folder)]
    commented = [text == f"# m{n}.py\nx = {n}\n" for n, text in enumerate(shown)]
    assert all(text in (f"x = {n}\n", f"# m{n}.py\nx = {n}\n") for n, text in enumerate(shown))
    assert 15 < sum(commented) < 45


def test_what_is_there_is_not_made_again(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    folder = tokenise(tmp_path, tokenizer, [document("x")])
    before = (folder / "train.python.jsonl").stat().st_mtime_ns
    task = TokeniseTask(tmp_path / "nowhere", folder, tokenizer.path, tmp_path / "scratch", np.zeros(1, np.uint8))
    assert tokenise_partition(task) == 0
    assert (folder / "train.python.jsonl").stat().st_mtime_ns == before
    assert json.loads((folder / "train.python.jsonl").read_text())["licence"] == "MIT"
