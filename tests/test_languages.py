"""The 20 languages: the model card's list, and every file goes to at most one."""

import itertools

import pytest

from codelm.languages import (
    LANGUAGES,
    language_by_name,
    language_of,
    language_of_script,
    may_be_script,
    preset_shares,
)

CARD = [
    "Markdown",
    "Java",
    "JavaScript",
    "Python",
    "TypeScript",
    "PHP",
    "SQL",
    "JSX",
    "reStructuredText",
    "Rust",
    "C",
    "CSS",
    "Go",
    "C++",
    "HTML",
    "Vue",
    "Ruby",
    "Jupyter Notebook",
    "R",
    "Shell",
]


def test_the_languages_are_those_of_the_model_card_in_its_order() -> None:
    assert [language.title for language in LANGUAGES.values()] == CARD


def test_no_extension_belongs_to_two_languages() -> None:
    extensions = [extension for language in LANGUAGES.values() for extension in language.extensions]
    assert len(extensions) == len(set(extensions))
    assert all(extension == extension.lower() and extension.startswith(".") for extension in extensions)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.py", "python"),
        ("README.MD", "markdown"),
        ("x.test.tsx", "typescript"),
        ("component.jsx", "jsx"),
        ("kernel.cu", "cpp"),
        ("header.h", "c"),
        ("analysis.R", "r"),
        ("notes.ipynb", "jupyter"),
        ("archive.py.gz", None),
        ("main.C", "cpp"),
        ("main.c", "c"),
        ("MAIN.CPP", "cpp"),
        ("docs/index.rst.txt", "restructuredtext"),
        ("notes.txt", None),
        ("tables.rs.in", "rust"),
        ("run.sh.in", "shell"),
        ("config.in", None),
        (".sh.in", None),
        ("page.html.hl", "html"),
        ("body.pkb", "sql"),
        ("config.ron", None),
        ("app.gyp", "python"),
        ("config.ru", "ruby"),
        ("template.tpp", "cpp"),
        ("x.", None),
        (".bashrc", None),
        ("folder.py/README", None),
        ("Makefile", None),
        (".py", None),
        ("", None),
    ],
)
def test_a_file_belongs_to_the_language_of_its_extension(path: str, name: str | None) -> None:
    language = language_of(path)
    assert (language.name if language else None) == name


# What The Stack's published map lists for the 20 languages, lower-case, but for what `languages` says it leaves out.
THE_STACK = {
    "markdown": "md markdown mkd mkdn mkdown",
    "java": "java",
    "javascript": "js _js bones es6 jake jsb jscad jsfl jsm jss njs pac sjs ssjs xsjs xsjslib",
    "python": "py bzl gyp lmi pyde pyp pyt pyw tac wsgi xpy",
    "typescript": "ts tsx",
    "php": "php aw ctp php3 php4 php5 phps phpt",
    "sql": "pkb pks plb plsql sql cql ddl prc udf viw db2",
    "jsx": "jsx",
    "restructuredtext": "rst rest.txt rst.txt",
    "rust": "rs rs.in",
    "c": "c h idc",
    "css": "css",
    "go": "go",
    "cpp": "cpp c++ cc cp cxx h++ hh hpp hxx inl ipp tcc tpp C H",
    "html": "html htm html.hl xht xhtml",
    "vue": "vue",
    "ruby": "rb builder gemspec god irbrc jbuilder mspec podspec rabl rake rbuild rbw rbx ru ruby thor watchr",
    "jupyter": "ipynb",
    "r": "r rd rsx",
    "shell": "sh bash bats command ksh sh.in tmux tool zsh",
}


@pytest.mark.parametrize("name", LANGUAGES)
def test_the_stacks_extensions_lead_to_its_languages(name: str) -> None:
    for extension in THE_STACK[name].split():
        assert language_of(f"folder/name.{extension}") is LANGUAGES[name]


def test_the_stacks_folders() -> None:
    renamed = {"cpp": "c++", "jupyter": "jupyter-notebook"}
    for language in LANGUAGES.values():
        assert language.stack_name == renamed.get(language.name, language.name)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("#!/bin/sh", "shell"),
        ("#! /bin/bash -e", "shell"),
        ("#!/usr/bin/env python3", "python"),
        ("#!/usr/bin/env -S python3.11 -u", "python"),
        ("#!/usr/bin/env -i PATH=/bin ruby", "ruby"),
        ("#!/usr/local/bin/ruby2.7", "ruby"),
        ("#!/usr/bin/Rscript", "r"),
        ("#!/usr/bin/env node", "javascript"),
        ("#!/usr/bin/php8.2", "php"),
        ("#!/usr/bin/perl", None),
        ("#!/bin/sh\r", "shell"),
        ("#!", None),
        ("#!/usr/bin/env", None),
        ("# !/bin/sh", None),
        (" #!/bin/sh", None),
        ("#!\n/bin/sh", None),
    ],
)
def test_a_script_is_of_the_language_of_its_program(line: str, name: str | None) -> None:
    language = language_of_script(line + "\nbody\n")
    assert (language.name if language else None) == name


def test_only_names_without_a_dot_may_be_scripts() -> None:
    assert all(map(may_be_script, ["bin/tool", "folder.d/tool"]))
    assert not any(map(may_be_script, ["x.py", ".bashrc", "tool.conf", "", "bin/"]))


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("C++", "cpp"),
        ("cpp", "cpp"),
        ("Jupyter-Notebook", "jupyter"),
        ("Jupyter Notebook", "jupyter"),
        ("TSX", "typescript"),
        ("reStructuredText", "restructuredtext"),
        ("PLpgSQL", "sql"),
        ("js", "javascript"),
        ("Kotlin", None),
        ("", None),
    ],
)
def test_linguists_names_lead_to_languages(written: str, name: str | None) -> None:
    language = language_by_name(written)
    assert (language.name if language else None) == name


@pytest.mark.parametrize("preset", ["natural", "replit-order"])
def test_presets_are_shares(preset: str) -> None:
    shares = preset_shares(preset)
    assert list(shares) == list(LANGUAGES)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) > 0


def test_replit_order_descends_strictly_in_the_cards_order() -> None:
    shares = list(preset_shares("replit-order").values())
    assert all(first > second for first, second in itertools.pairwise(shares))
