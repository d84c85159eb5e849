"""Extensions that several languages share are decided by content."""

import tracemalloc

import pytest

from codelm.data.rules.ambiguous import decide_language, may_have_language
from codelm.data.rules.gitattributes import Attributes

C_HEADER = """/* class of things; template < of them
 * std::vector is not used here. try it. */
#ifndef QUEUE_H
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
typedef struct queue { int class; struct queue *next; } queue; // public: no
static const char *names[] = {"std::string", "namespace x {"};
#if defined(__cplusplus)
class Wrapper;
}
#endif
#endif
"""


@pytest.mark.parametrize(
    ("path", "text", "name"),
    [
        ("a.h", C_HEADER, "c"),
        ("a.h", "", "c"),
        ("a.h", "#define N 1\n", "c"),
        ("a.h", "#include <vector>\n", "cpp"),
        ("a.h", "#include <string.h>\nint f(void);\n", "c"),
        ("a.h", "class Queue {\n public:\n};\n", "cpp"),
        ("a.h", "class EXPORT Queue : Base {\n};\n", "cpp"),
        ("a.h", "class Queue;\n", "cpp"),
        ("a.h", "  template <class T> T f();\n", "cpp"),
        ("a.h", "template<\n class T> T f();\n", "cpp"),
        ("a.h", "namespace a::b {\n", "cpp"),
        ("a.h", "namespace a\n{\n", "cpp"),
        ("a.h", "using namespace std;\n", "cpp"),
        ("a.h", "std::size_t f();\n", "cpp"),
        ("a.h", "enum class Colour { red };\n", "cpp"),
        ("a.h", "struct A { A(const A&) = delete; };\n", "cpp"),
        ("a.h", "struct A : public B { int x; };\n", "cpp"),
        ("a.h", "bool operator==(const A&, const A&);\n", "cpp"),
        ("a.h", "struct flags { unsigned x : 3; };\n", "c"),
        ("a.h", "int operator; int delete; int new;\n", "c"),
        ("a.h", "enum e { a }; union u { int using; };\n", "c"),
        ("a.h", "@interface View : NSObject\n@end\n", None),
        ("a.h", "#import <Foundation/Foundation.h>\n", None),
        ("a.h", "/**\n * @interface x\n@end\n */\nint f(void);\n", "c"),
        ("a.hh", "<?hh // strict\nfunction f(): void {}\n", None),
        ("a.hh", "struct A {};\n", "cpp"),
        ("main.C", "int main() { return 0; }\n", "cpp"),
        ("MAIN.C", "int main() { return 0; }\n", "c"),
        ("MAIN.C", "#include <iostream>\n", "cpp"),
        ("a.cp", "MODULE Queue;\nIMPORT Log;\n", None),
        ("a.cp", "int main() {}\n", "cpp"),
        ("a.ts", "export const x: number = 1\n", "typescript"),
        ("a.ts", "const x = f<TS>()\n", "typescript"),
        ("a.ts", '<?xml version="1.0"?>\n<!DOCTYPE TS>\n<TS version="2.1">\n', None),
        ("a.ts", '<!DOCTYPE TS><TS version="2.1">\n', None),
        ("a.ts", "\n<TS>\n", None),
        ("a.ts", ("G\x01" + "x" * 186) * 3, None),
        ("a.ts", "G", "typescript"),
        ("map.tsx", '<?xml version="1.0"?>\n<tileset>\n', None),
        ("app.tsx", "export const A = () => <TS />\n", "typescript"),
        ("i386.md", ';; Machine description\n(define_insn "add"\n', None),
        ("i386.md", '\n(define_predicate "x"\n', None),
        ("README.md", "# Title\n\n    (define_insn is code)\n", "markdown"),
        ("README.md", "", "markdown"),
        ("a.rs", "fn main() {}\n", "rust"),
        ("a.rs", '<?xml version="1.0"?>\n<resources/>\n', None),
        ("a.rs", "#pragma version(1)\n#pragma rs java_package_name(a.b)\n", None),
        ("a.r", "x <- c(1, 2)\n", "r"),
        ("a.r", 'REBOL [Title: "x"]\nprint now\n', None),
        ("a.R", "Rebol [\n]\n", None),
        ("a.r", "# How R differs from Rebol\nx <- 1\n", "r"),
        ("a.r", '#include "Types.r"\nresource \'STR \' (128) { "x" };\n', None),
        ("a.sql", "CREATE FUNCTION f() RETURNS int AS $$ BEGIN END $$ LANGUAGE plpgsql;\n", "sql"),
        ("a.sql", "SET NOCOUNT ON\nGO\n", "sql"),
        ("a.php", "<?php echo 1;\n", "php"),
        ("a.php", "<?hh\nfunction f(): void {}\n", None),
        ("a.html", "{% extends 'base.html' %}{{ title }}\n", "html"),
        ("a.js", "export const A = () => <div/>\n", "javascript"),
        ("a.jsx", "export const A = () => <div/>\n", "jsx"),
        ("a.pyi", "def f() -> int: ...\n", "python"),
        ("bin/tool", "#!/usr/bin/env python3\n", "python"),
        ("bin/tool", "words\n", None),
        ("tool.conf", "#!/bin/sh\n", None),
        ("x.py", "#!/bin/sh\n", "python"),
        ("x.kt", "fun main() {}\n", None),
    ],
)
def test_content_decides(path: str, text: str, name: str | None) -> None:
    assert decide_language(path, text) == name


def test_gitattributes_decide_first() -> None:
    assert decide_language("a.h", "int f(void);\n", Attributes(language="C++")) == "cpp"
    assert decide_language("a.inc", "<?php\n", Attributes(language="PHP")) == "php"
    assert decide_language("a.py", "x = 1\n", Attributes(language="Starlark")) is None


def test_what_is_worth_reading() -> None:
    assert may_have_language("a.py")
    assert may_have_language("bin/tool")
    assert not may_have_language("a.kt")
    assert may_have_language("a.inc", Attributes(language="PHP"))
    assert not may_have_language("a.py", Attributes(language="Starlark"))


def test_hostile_headers_take_no_time() -> None:
    for text in [
        "/*" * 300_000,
        '"' * 600_000,
        "class " * 100_000,
        "class A B " * 60_000,
        "\n" * 600_000,
        "a::" * 200_000,
    ]:
        assert decide_language("a.h", text) in ("c", "cpp")
    assert decide_language("a.h", "#ifdef __cplusplus\n" * 30_000) == "c"


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_long_string_is_passed_over_without_a_memory_of_its_characters(quote: str) -> None:
    text = f"static const char data[] = {quote}" + r"0123456789\n" * 50_000 + f"{quote};\n"
    tracemalloc.start()
    assert decide_language("a.h", text) == "c"
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * len(text)
