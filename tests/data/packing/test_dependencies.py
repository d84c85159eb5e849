"""Imports are found in each language, and imported files come before what imports them: in real packages too."""

import ast
import re
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelm.data.packing.dependencies import File, import_graph, in_dependency_order

STDLIB = Path(sysconfig.get_path("stdlib"))
INCLUDE = Path(sysconfig.get_path("include"))


def imported(language: str, importer: str, text: str, *others: str) -> set[str]:
    """The paths that a file of this text imports, among others."""
    paths = [importer, *others]
    graph = import_graph([(path, language, text if path == importer else "") for path in paths])
    assert not any(graph[1:])
    return {paths[number] for number in graph[0]}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import pkg.a", {"pkg/a.py"}),
        ("import os, pkg.a as q, pkg.sub.b # and more", {"pkg/a.py", "pkg/sub/b.py"}),
        ("from pkg import a", {"pkg/a.py"}),
        ("from pkg.sub import (\n    b,\n    name,\n)", {"pkg/sub/b.py", "pkg/sub/__init__.py"}),
        ("from . import a", {"pkg/a.py"}),
        ("    from .sub import b as c", {"pkg/sub/b.py"}),
        ("from .sub import name", {"pkg/sub/__init__.py"}),
        ("from ..top import x", {"top.py"}),
        ("import a", {"pkg/a.py"}),  # a folder of scripts, since it has no __init__.py
        ("import json", set()),
        ("from json import loads", set()),
        ("print('import pkg.a')", set()),
    ],
)
def test_python(line: str, found: set[str]) -> None:
    others = ["pkg/a.py", "pkg/sub/__init__.py", "pkg/sub/b.py", "top.py", "deep/down/json.py"]
    assert imported("python", "pkg/main.py", f"{line}\n", *others) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import a from './a'", {"src/a.ts"}),
        ("import './a.js'", {"src/a.ts"}),
        ('export * from "../lib"', {"lib/index.js"}),
        ("const v = require('./View.vue')", {"src/View.vue"}),
        ("const v = await import( './View' )", {"src/View.vue"}),
        ("import React from 'react'", set()),
        ("import x from './nowhere'", set()),
    ],
)
@pytest.mark.parametrize("language", ["javascript", "typescript", "jsx", "vue"])
def test_javascript_and_its_kin(language: str, line: str, found: set[str]) -> None:
    assert imported(language, "src/main.ts", line, "src/a.ts", "lib/index.js", "src/View.vue", "react.js") == found


@pytest.mark.parametrize(
    ("language", "importer", "line", "others", "found"),
    [
        ("c", "src/a.c", '#include "b.h"', ["src/b.h", "b.h"], {"src/b.h"}),
        ("cpp", "db/a.cc", '# include "util/b.h"', ["include/util/b.h", "x/b.h"], {"include/util/b.h"}),
        ("c", "one/a.c", '#include "b.h"', ["two/b.h", "one/deep/b.h"], {"one/deep/b.h"}),
        ("c", "a.c", "#include <stdio.h>", ["stdio.h"], set()),
        ("go", "main.go", 'import (\n\t"fmt"\n\tx "h.com/o/m/u"\n)', ["u/a.go", "u/b.go"], {"u/a.go", "u/b.go"}),
        ("go", "main.go", 'import "encoding/json"', ["json/a.go"], set()),
        ("java", "src/a/A.java", "import b.c.C;", ["src/b/c/C.java", "src/c/C.java"], {"src/b/c/C.java"}),
        ("java", "src/a/A.java", "import static b.C.max;", ["src/b/C.java"], {"src/b/C.java"}),
        ("php", "src/A.php", "use Twig\\Node\\Node;", ["src/Node/Node.php"], {"src/Node/Node.php"}),
        ("php", "s/A.php", "use T\\N\\{B, C as D};", ["s/N/B.php", "s/N/C.php"], {"s/N/B.php", "s/N/C.php"}),
        ("php", "a/A.php", "require_once __DIR__ . '/../b.php';", ["b.php"], {"b.php"}),
        ("ruby", "lib/x/a.rb", "require_relative 'b'", ["lib/x/b.rb"], {"lib/x/b.rb"}),
        ("ruby", "bin/a.rb", "require 'x/b'", ["lib/x/b.rb"], {"lib/x/b.rb"}),
        ("ruby", "bin/a.rb", "require 'json'", ["spec/json.rb"], set()),
        ("rust", "src/main.rs", "pub mod a;\nmod b;", ["src/a.rs", "src/b/mod.rs"], {"src/a.rs", "src/b/mod.rs"}),
        ("rust", "src/a.rs", "mod c;", ["src/a/c.rs", "src/c.rs"], {"src/a/c.rs"}),
        ("rust", "x/src/a/b.rs", "use crate::d::Thing;", ["x/src/d.rs", "src/d.rs"], {"x/src/d.rs"}),
        ("rust", "src/a/b.rs", "use super::e;", ["src/a/e.rs", "src/e.rs"], {"src/a/e.rs"}),
        ("sql", "a.sql", "import b.sql", ["b.sql"], set()),
    ],
)  # fmt: skip
def test_other_languages(language: str, importer: str, line: str, others: list[str], found: set[str]) -> None:
    assert imported(language, importer, f"{line}\n", *others) == found


def test_what_is_imported_comes_first_and_the_rest_stays_in_order() -> None:
    files = [
        ("a.py", "python", "import c\n"),
        ("b.py", "python", ""),
        ("c.py", "python", "import d\n"),
        ("d.py", "python", ""),
    ]
    assert in_dependency_order(files) == [1, 3, 2, 0]


def test_circles_are_broken_in_one_way() -> None:
    files = [
        ("a.py", "python", "import b\nimport c\n"),
        ("b.py", "python", "import a\n"),
        ("c.py", "python", ""),
        ("d.py", "python", "import d\nimport b\n"),
    ]
    # Once c is there, a and b wait for one more each: a was given first. d waits for b.
    assert in_dependency_order(files) == [2, 0, 1, 3]


def test_a_file_that_imports_from_a_circle_comes_after_what_it_imports() -> None:
    files = [
        ("0.py", "python", "import b\n"),
        ("a.py", "python", "import b\nimport c\n"),
        ("b.py", "python", "import a\nimport c\n"),
        ("c.py", "python", "import a\nimport b\n"),
    ]
    assert in_dependency_order(files) == [1, 2, 0, 3]


def test_a_long_chain_of_imports_is_no_trouble() -> None:
    files = [(f"m{n}.py", "python", f"import m{n + 1}\n") for n in range(5000)]
    assert in_dependency_order(files) == list(range(4999, -1, -1))


@given(st.lists(st.sets(st.integers(0, 14)), min_size=1, max_size=15))
def test_every_file_comes_once_and_after_its_imports_unless_in_a_circle(edges: list[set[int]]) -> None:
    files = [(f"m{i}.py", "python", "".join(f"import m{j}\n" for j in sorted(js))) for i, js in enumerate(edges)]
    check_order(files)


def check_order(files: list[File]) -> list[set[int]]:
    graph = import_graph(files)
    order = in_dependency_order(files)
    assert sorted(order) == list(range(len(files)))
    place = {number: index for index, number in enumerate(order)}
    for number, imports in enumerate(graph):
        for other in imports:
            assert place[other] < place[number] or number in reachable(graph, other), "only within a circle"
    return graph


def reachable(graph: list[set[int]], start: int) -> set[int]:
    found: set[int] = set()
    waiting = list(graph[start])
    while waiting:
        number = waiting.pop()
        if number not in found:
            found.add(number)
            waiting += graph[number]
    return found


def test_pythons_headers() -> None:
    paths = sorted(INCLUDE.rglob("*.h"))
    files = [(str(path.relative_to(INCLUDE)), "c", path.read_text()) for path in paths]
    graph = check_order(files)
    names = {path: number for number, (path, _, _) in enumerate(files)}
    for number, (path, _, text) in enumerate(files):
        for name in re.findall(r'^\s*#\s*include\s+"(.*?)"', text, re.MULTILINE):
            resolved = next((names[p] for p in (str(Path(path).parent / name), name) if p in names), None)
            assert resolved is None or resolved in graph[number] | {number}
    assert sum(map(len, graph)) > 150


@pytest.mark.parametrize("package", ["email", "asyncio", "json", "concurrent"])
def test_the_imports_of_the_standard_library_are_those_of_pythons_own_parser(package: str) -> None:
    """What is found inside a package agrees with `ast`."""
    paths = sorted((STDLIB / package).rglob("*.py"))
    files = [(str(path.relative_to(STDLIB)), "python", path.read_text()) for path in paths]
    graph = check_order(files)
    names = {path: number for number, (path, _, _) in enumerate(files)}
    for number, (path, _, text) in enumerate(files):
        expected = set()
        for module, inner in parsed_imports(path, text):
            for name in [f"{module}.{inner}", module] if inner else [module]:
                base = name.replace(".", "/")
                hit = next((names[p] for p in (f"{base}.py", f"{base}/__init__.py") if p in names), None)
                if hit is not None:
                    expected.add(hit)
                    break
        assert graph[number] == expected - {number}, path


def parsed_imports(path: str, text: str) -> list[tuple[str, str]]:
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if "." in alias.name]
        elif isinstance(node, ast.ImportFrom):
            parents = path.split("/")[: -node.level] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            found += [(module, alias.name) for alias in node.names]
    return found
