"""`.gitattributes` is read as git reads it: every answer is compared with `git check-attr`."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from codelm.data.rules.git_patterns import compile_pattern
from codelm.data.rules.gitattributes import Attributes, GitAttributes

NAMES = [
    "linguist-language",
    "linguist-vendored",
    "linguist-generated",
    "linguist-documentation",
    "linguist-detectable",
]
PATHS = [
    "a",
    "b.js",
    "main.c",
    "vendor/b.js",
    "vendor/deep/er/b.js",
    "src/vendor/b.js",
    "src/vendor.js",
    "src/lib/main.c",
    "src/lib/x/main.c",
    "src/lib/x/y/z.min.js",
    "src/libx/main.c",
    "docs/read me.md",
    'docs/"quoted".md',
    "docs/[x].md",
    "docs/x*.md",
    "docs/back\\slash.md",
    "docs/!bang.md",
    "docs/#hash.md",
    "docs/é.md",
    "docs/日本.md",
    "docs/a-b.md",
    "docs/]b.md",
    "docs/^b.md",
    "docs/B.md",
    "docs/0.md",
    "docs/[attr]x",
    "docs/.hidden",
    "foo/bar",
    "foox/y/bar",
    "foobar",
    "x/foobar/baz",
    "x/foo/bar",
    "aaaaaaaaaaaaaaaaaaaaab",
]


def git_says(root: Path, names: list[str], paths: list[str]) -> dict[tuple[str, str], str]:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    environment |= {"GIT_ATTR_NOSYSTEM": "1", "HOME": str(root), "XDG_CONFIG_HOME": str(root / "none")}
    subprocess.run(["git", "init", "-q", root], check=True, env=environment)
    answer = subprocess.run(
        ["git", "-C", root, "check-attr", "-z", "--stdin", *names],
        input="\0".join(paths),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    triples = zip(answer[0::3], answer[1::3], answer[2::3], strict=False)
    return {(path, name): value for path, name, value in triples}


def check(root: Path, files: dict[str, str], names: list[str] = NAMES, paths: list[str] = PATHS) -> None:
    """Our answers are git's for every path and name."""
    for folder, text in files.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / ".gitattributes").write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
    ours = GitAttributes(files)
    spelled = {True: "set", False: "unset", None: "unspecified"}
    answers = {path: ours.values(path) for path in paths}
    different = {}
    for (path, name), expected in git_says(root, names, paths).items():
        value = answers[path].get(name)
        if (value if isinstance(value, str) else spelled[value]) != expected:
            lines = [line for text in files.values() for line in text.split("\n") if name in line]
            different[path, name, *lines] = value, expected
    assert different == {}


HOSTILE = [
    "*",
    "**",
    "*.js",
    "*.*",
    "vendor",
    "vendor/",
    "vendor/*",
    "vendor/**",
    "/vendor/**",
    "**/vendor/*",
    "**/vendor/**",
    "src/**",
    "src/**/main.c",
    "src/**/z.min.js",
    "src/*/main.c",
    "src/lib*/main.c",
    "src/lib**/main.c",
    "s**/main.c",
    "foo**/bar",
    "foo**",
    "x/foo**",
    "x/foo**/baz",
    "/foo**/bar",
    "fo?**/bar",
    "\\foo**/bar",
    "a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*c",
    "a*a*a*a*b",
    "/*.c",
    "/main.c",
    "main.c",
    "/**/main.c",
    "**/**/main.c",
    "**/main.c/",
    "/",
    "//main.c",
    "src//main.c",
    "docs/\\[x\\].md",
    "docs/[x].md",
    "docs/[[]x].md",
    "docs/[[]x[]].md",
    "docs/x\\*.md",
    "docs/x*.md",
    "docs/back\\\\slash.md",
    "back\\\\*",
    "back[\\\\]slash.md",
    "docs/?.md",
    "docs/??.md",
    "docs/\\!bang.md",
    "!bang.md",
    "\\!bang.md",
    "docs/#hash.md",
    "\\#hash.md",
    '"docs/read me.md"',
    '"docs/\\"quoted\\".md"',
    '"docs/\\303\\251.md"',
    '"docs/*.md"',
    '"main.c"linguist-vendored',
    '"main.c',
    '"bad \\q escape.c"',
    "docs/é.md",
    "docs/日本.md",
    "docs/[é].md",
    "docs/[!a].md",
    "docs/[^a].md",
    "docs/[]b]b.md",
    "docs/[!]b]b.md",
    "docs/[]-a]b.md",
    "docs/[a-c]-b.md",
    "docs/[c-a]-b.md",
    "docs/a[-x]b.md",
    "docs/a[x-]b.md",
    "docs/[a-c-e]-b.md",
    "docs/[\\a-\\c]-b.md",
    "docs/[[:upper:]].md",
    "docs/[[:digit:]A-Z].md",
    "docs/[![:upper:]].md",
    "docs/[[:nonsense:]].md",
    "docs/[[:]x].md",
    "docs/[[:x].md",
    "docs/[^^]*.md",
    "docs[/]B.md",
    "docs?B.md",
    "docs[!x]B.md",
    "docs/[abc",
    "docs/[a-",
    "docs/[",
    "docs/B.md\\",
    "[attr]",
    "\\[attr]x",
    ".*",
    "docs/*",
    "docs/.*",
    "?",
    "[a-z]",
    "\\a",
    "\\*",
    "src\\/lib/main.c",
    "src/**\\/main.c",
    "***/main.c",
    "src/***/main.c",
    "src/***",
]


def test_hostile_patterns_match_what_git_matches(tmp_path: Path) -> None:
    """One attribute a pattern, so that git is asked once."""
    names = [f"p{number}" for number in range(len(HOSTILE))]
    text = "".join(f"{pattern} {name}\n" for pattern, name in zip(HOSTILE, names, strict=True))
    check(tmp_path, {"": text}, names)


def test_hostile_patterns_of_a_folder_match_what_git_matches(tmp_path: Path) -> None:
    names = [f"p{number}" for number in range(len(HOSTILE))]
    patterns = [pattern.replace("docs/", "") for pattern in HOSTILE]
    text = "".join(f"{pattern} {name}\n" for pattern, name in zip(patterns, names, strict=True))
    check(tmp_path, {"docs": text}, names)


def test_random_patterns_match_what_git_matches(tmp_path: Path) -> None:
    """The alphabet is small, so that many match; the patterns are the same in every run."""
    chance = random.Random(7)
    pieces = [
        "a",
        "b",
        "*",
        "**",
        "/",
        "?",
        "[ab]",
        "[!a]",
        "\\a",
        "[",
        "]",
        "-",
        "[a-b]",
        "\\",
        "**/",
        "/**",
        "!",
        "é",
    ]
    patterns = {"".join(chance.choices(pieces, k=chance.randint(1, 7))) for _ in range(1500)}
    patterns = sorted(p for p in patterns if not p.startswith("#"))
    paths = sorted(
        {"/".join("".join(chance.choices("abé-", k=chance.randint(1, 3))) for _ in range(n % 4 + 1)) for n in range(60)}
    )
    names = [f"p{number}" for number in range(len(patterns))]
    text = "".join(f"{pattern} {name}\n" for pattern, name in zip(patterns, names, strict=True))
    check(tmp_path, {"": text}, names, paths)


@pytest.mark.parametrize(
    "files",
    [
        {"": "*.js linguist-vendored\nb.js -linguist-vendored\n"},
        {"": "b.js -linguist-vendored\n*.js linguist-vendored\n"},
        {"": "*.js linguist-vendored\nb.js !linguist-vendored\n"},
        {
            "": "*.js linguist-vendored",
            "vendor": "*.js -linguist-vendored",
            "vendor/deep/er": "*.js !linguist-vendored",
        },
        {"": "src/** linguist-language=C++ linguist-generated=true", "src/lib": "main.c linguist-language=C"},
        {"src": "/lib/main.c linguist-generated\nvendor/b.js linguist-vendored"},
        {"": "[attr]ours -linguist-vendored linguist-language=JavaScript\n*.js linguist-vendored\nvendor/** ours\n"},
        {"": "[attr]a b\n[attr]b a linguist-generated\n*.js a\n"},
        {"": "[attr]one linguist-generated\n[attr]one -linguist-generated\n*.js one\n"},
        {"": "*.js mine\nmain.c -mine\n", "src": "[attr]mine linguist-vendored\n*.c mine\n"},
        {"": "*.js -binary\n*.c binary linguist-vendored\n"},
        {"": "  *.js\tlinguist-vendored   -linguist-generated \r\n\r\n# *.c linguist-vendored\r\n"},
        {"": "\ufeff*.js linguist-vendored\n"},
        {"": "*.js linguist-vendored linguist-vendored=no -linguist-vendored\n"},
        {"": "*.js linguist-language=\n*.c linguist-language=a=b\n"},
        {"": "*.js --linguist-vendored linguist-generated\n*.c b@d linguist-generated\n*.md =x linguist-generated\n"},
        {"": "*.js -linguist-language=C\n*.c !linguist-language=C\n"},
        {"": '"*.js"linguist-vendored\n"*.c"\tlinguist-vendored\n'},
        {"": "*.js " + "x" * 2030 + " linguist-vendored\n*.c " + "x" * 3000 + " linguist-vendored\n"},
        {"": "*.js\n\n   \n*.c linguist-vendored"},
        {"": '"[attr]quoted" linguist-vendored\n*.js quoted\n'},
        {"": "*.js\x0blinguist-vendored\n*.c\xa0linguist-vendored\n"},
        {"": "*.js builtin_x linguist-vendored\n"},
    ],
)
def test_precedence_is_gits(tmp_path: Path, files: dict[str, str]) -> None:
    check(tmp_path, files)


def test_flags_are_read_as_linguist_reads_them() -> None:
    """`name` and `name=true` say yes, `-name` and `name=false` no; `!name` takes back what was said."""
    attributes = GitAttributes(
        {
            "": "*.a linguist-vendored linguist-generated=true -linguist-documentation linguist-detectable=false\n"
            "*.b linguist-language=Jupyter-Notebook\n*.c linguist-language\n"
            "*.d linguist-vendored\nx.d !linguist-vendored\n"
        }
    )
    assert attributes.of("x.a") == Attributes(None, True, True, False, False)
    assert attributes.of("x.b") == Attributes("Jupyter-Notebook")
    assert attributes.of("x.c") == attributes.of("x.d") == attributes.of("other") == Attributes()
    assert attributes.of("y.d").vendored


def test_a_hostile_pattern_takes_no_time() -> None:
    matches = compile_pattern("*a" * 300 + "c")
    assert not matches("a" * 4000)
    matches = compile_pattern("**/a/" * 300 + "c")
    assert not matches("a/" * 2000 + "b")
