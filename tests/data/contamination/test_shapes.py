"""Functions found under other names, and nothing else taken for them: on Python's own library."""

import ast
import builtins
import random
import re
import sysconfig
import textwrap
from pathlib import Path

import pytest

from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import Problem

STDLIB = Path(sysconfig.get_path("stdlib"))
SOURCES = ("heapq.py", "bisect.py", "textwrap.py", "fnmatch.py", "shlex.py", "statistics.py", "calendar.py", "csv.py")


def functions(path):
    """Name and text of every function with a body of some length, at the left margin and without its docstring."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and 4 <= (node.end_lineno or 0) - node.lineno <= 60:
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = text.split("\n")
            if body:
                kept = [*lines[node.lineno - 1 : node.body[0].lineno - 1], *lines[body[0].lineno - 1 : node.end_lineno]]
                yield f"{path.name}::{node.name}:{node.lineno}", textwrap.dedent("\n".join(kept))


FUNCTIONS = dict(item for name in SOURCES for item in functions(STDLIB / name))


@pytest.fixture(scope="module")
def needles():
    return Needles.build([Problem("lib", name, "", "", "", code) for name, code in FUNCTIONS.items()])


def renamed(code, names):
    for name in names:
        code = re.sub(rf"(?<![.\w\"']){name}(?![\w\"'])", f"other_{name[::-1]}", code)
    return code


def locals_of(code):
    """Names that a copy may well have replaced; those of builtins stay as they are."""
    tree = ast.parse(code)
    stored = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    return sorted(
        {*stored, *(node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))} - {"self", "cls", *dir(builtins)}
    )


@pytest.mark.parametrize("how", ["one name", "all names", "all names, other layout"])
def test_a_renamed_copy_is_found(needles, how):
    missed = []
    covered = {needles.problems[number][1] for number in needles.fewest_runs}
    assert len(covered) > 0.9 * len(FUNCTIONS)
    for name in covered:
        names = locals_of(FUNCTIONS[name])
        copy = renamed(FUNCTIONS[name], names[:1] if how == "one name" else names)
        if "layout" in how:
            copy = re.sub(r"\n( *)", "  # a comment\n\n\\1\\1", copy)
        around = "import os\n\n\ndef before():\n    return os.sep\n\n\n"
        hits = [hit for hit in needles.find(around + copy) if hit.problem == name]
        if not hits:
            missed.append(name)
        else:
            assert (hits[0].kind, hits[0].position >= len(around)) == ("renamed", True)
    assert missed == []


def test_no_other_file_of_the_library_holds_one(needles):
    files = sorted(path for path in STDLIB.glob("*.py") if path.name not in SOURCES)
    for path in random.Random(5).sample(files, 40):
        found = [hit for hit in needles.find(path.read_text(errors="replace"), "python") if hit.kind == "renamed"]
        assert found == [], path


def test_other_languages_are_not_searched(needles):
    code = renamed(FUNCTIONS[next(iter(FUNCTIONS))], ["heap"])
    assert needles.find(code, "python")
    assert needles.find(code, "javascript") == []


@pytest.mark.parametrize("text", ["", "#", '"""', "\0", "\ud800 = 1", "x" * 100_000, "( " * 1000])
def test_any_text_can_be_searched(needles, text):
    assert needles.find(text, "python") == []
