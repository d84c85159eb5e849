"""A repository in one document, and comments with paths: what stands where, and that nothing of a text is lost."""

from pathlib import Path

import pytest

from codelm.config.data import ContextSection
from codelm.data.packing.context import SourceFile, encode_repository, in_order, path_comment, takes_comment
from codelm.languages import LANGUAGES
from codelm.tokenizer import CodeTokenizer
from codelm.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> CodeTokenizer:
    texts = [path.read_text() for path in sorted((code_folder / "json").glob("*.py"))]
    return train_tokenizer(texts, 500, tmp_path_factory.mktemp("tokenizer"))


def file(path: str, text: str, language: str = "python") -> SourceFile:
    return SourceFile(path, language, text, path.encode(errors="replace").hex())


@pytest.mark.parametrize(
    ("language", "text", "commented"),
    [
        ("python", "x = 1\n", "# a/b\nx = 1\n"),
        ("python", "#!/bin/py\n# -*- coding: utf-8 -*-\nx", "#!/bin/py\n# -*- coding: utf-8 -*-\n# a/b\nx"),
        ("python", "# coding=utf8\nx", "# coding=utf8\n# a/b\nx"),
        ("shell", "#!/bin/sh\nls\n", "#!/bin/sh\n# a/b\nls\n"),
        ("c", "int x;\n", "// a/b\nint x;\n"),
        ("css", "a {}\n", "/* a/b */\na {}\n"),
        ("sql", "SELECT 1;", "-- a/b\nSELECT 1;"),
        ("markdown", "# Title\n", "<!-- a/b -->\n# Title\n"),
        ("markdown", "---\ntitle: x\n---\ntext", "---\ntitle: x\n---\n<!-- a/b -->\ntext"),
        ("restructuredtext", "Title\n=====\n", ".. a/b\n\nTitle\n=====\n"),
        ("html", "<!DOCTYPE html>\n<p>", "<!DOCTYPE html>\n<!-- a/b -->\n<p>"),
        ("html", "<p>", "<!-- a/b -->\n<p>"),
        ("php", "<?php\nf();", "<?php\n// a/b\nf();"),
        ("php", "<p><?php f(); ?>", "<!-- a/b -->\n<p><?php f(); ?>"),
        ("php", "<?php f(); ?>\n<p>", "<!-- a/b -->\n<?php f(); ?>\n<p>"),
        ("vue", "<template/>", "<!-- a/b -->\n<template/>"),
    ],
)  # fmt: skip
def test_path_comments_stand_where_the_language_takes_them(language: str, text: str, commented: str) -> None:
    assert path_comment("a/b", language, text) == commented


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_every_language_has_a_comment_on_a_line_of_its_own(language: str) -> None:
    commented = path_comment("src/main", language, "text\n")
    assert commented.endswith("\ntext\n")
    assert "src/main" in commented.splitlines()[0]


@pytest.mark.parametrize(
    ("language", "path"), [("css", "a*/b"), ("html", "a-->b"), ("c", "a\nb"), ("php", "a?>b"), ("c", "a\udcff")]
)
def test_a_hostile_path_gets_no_comment(language: str, path: str) -> None:
    assert path_comment(path, language, "<?php\n") == "<?php\n"


def test_the_share_of_comments_is_chosen_by_contents() -> None:
    digests = [f"{number:032x}" for number in range(4000)]
    chosen = [takes_comment(digest, 0.3, 17) for digest in digests]
    assert 0.27 < sum(chosen) / len(chosen) < 0.33
    assert chosen == [takes_comment(digest, 0.3, 17) for digest in digests]
    assert chosen != [takes_comment(digest, 0.3, 18) for digest in digests]
    more = [takes_comment(digest, 0.6, 17) for digest in digests]
    assert all(now for now, before in zip(more, chosen, strict=True) if before), "a larger share holds the smaller"
    assert not any(takes_comment(digest, 0.0, 17) for digest in digests)
    assert all(takes_comment(digest, 1.0, 17) for digest in digests)


def test_orders_do_not_depend_on_the_order_of_reading() -> None:
    files = [file("b.py", "import a\n"), file("z.py", ""), file("a.py", "import z\n"), file("c.py", "")]
    paths = {
        order: [files[n].path for n in in_order(files, ContextSection(by_repository=True, order=order), 17)]
        for order in ("path", "dependency", "random")
    }
    assert paths["path"] == ["a.py", "b.py", "c.py", "z.py"]
    assert paths["dependency"] == ["c.py", "z.py", "a.py", "b.py"]
    assert sorted(paths["random"]) == paths["path"]
    for order, expected in paths.items():
        section = ContextSection(by_repository=True, order=order)  # type: ignore[arg-type]
        again = files[::-1]
        assert [again[n].path for n in in_order(again, section, 17)] == expected
    section = ContextSection(by_repository=True, order="random")
    assert len({tuple(in_order(files, section, seed)) for seed in range(20)}) > 5


def test_a_repository_is_laid_out_as_starcoder2_read_it(tokenizer: CodeTokenizer) -> None:
    files = [file("a.py", "x = 1"), file("b/c.py", "<file_sep> = 2\n")]
    encoded = list(encode_repository(tokenizer, "owner/name", files))
    special = tokenizer.special_ids
    assert tokenizer.decode(encoded[0], keep_special=True) == "<repo_name>owner/name<file_sep>a.py\nx = 1"
    assert tokenizer.decode(encoded[1], keep_special=True) == "<file_sep>b/c.py\n<file_sep> = 2\n<|endoftext|>"
    ids = encoded[0] + encoded[1]
    assert [ids.count(special[name]) for name in ("repo_name", "file_sep")] == [1, 2], "text never becomes a piece"
    assert ids.count(tokenizer.eos_id) == 1


def test_without_the_pieces_each_file_begins_with_its_path_in_a_comment(
    tokenizer: CodeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(tokenizer.special_ids, "file_sep")
    files = [file("a.py", "x = 1"), file("b.c", "int y;\n", "c")]
    ids = [i for part in encode_repository(tokenizer, "name", files) for i in part]
    assert tokenizer.decode(ids, keep_special=True) == "# a.py\nx = 1\n// b.c\nint y;\n<|endoftext|>"


def test_names_that_are_no_unicode_are_written_as_question_marks(tokenizer: CodeTokenizer) -> None:
    [ids] = encode_repository(tokenizer, "n\udcff", [file("a\udcff.py", "x")])
    assert tokenizer.decode(ids, keep_special=True) == "<repo_name>n?<file_sep>a?.py\nx<|endoftext|>"


@pytest.mark.parametrize("place", ["/home/me/rows.jsonl#0", "/data/a.parquet#17", "s3://bucket/rows.jsonl.gz#99"])
def test_where_a_row_without_a_path_lies_is_not_learnt(place: str, tokenizer: CodeTokenizer) -> None:
    """So the same rows give the same tokens on every machine, and no machine's paths are in a corpus."""
    assert path_comment(place, "python", "x = 1\n") == "x = 1\n"
    (ids,) = encode_repository(tokenizer, "rows", [SourceFile(place, "python", "x = 1\n", "00")])
    assert "rows.jsonl" not in tokenizer.decode(ids)
    elsewhere = [SourceFile(f"/elsewhere/rows.jsonl#{number}", "python", "x", f"{number:02}") for number in range(9)]
    here = [SourceFile(f"{place[:-1]}{number}", "python", "x", f"{number:02}") for number in range(9)]
    shuffled = ContextSection(by_repository=True, order="random")
    assert in_order(here, shuffled, 17) == in_order(elsewhere, shuffled, 17)
    assert path_comment("src/a#1", "python", "x = 1\n") == "# src/a#1\nx = 1\n"
