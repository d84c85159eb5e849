"""What `.gitattributes` files say of a path: its `linguist-` language, vendored, generated, documentation, detectable.

Git's own rules (gitattributes(5)): in the deepest folder first, from the last line to the first, each attribute is
taken from the first pattern that matches. Macros (`[attr]name`) are read in the top folder.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from codelm.data.rules.git_patterns import Pattern, as_bytes, compile_pattern

LANGUAGE = "linguist-language"
_FLAGS = ("linguist-vendored", "linguist-generated", "linguist-documentation", "linguist-detectable")

Value = str | bool | None
"""Set, unset (`-name`), a string (`name=value`), or None: unspecified."""

_BINARY: dict[str, Value] = {"diff": False, "merge": False, "text": False}
_NAME = re.compile(r"[A-Za-z0-9_.][-A-Za-z0-9_.]*")
# Git's own limits: longer lines and larger files are ignored.
_LONGEST_LINE, _LARGEST_FILE = 2048, 100 * 1024 * 1024
_BLANK = " \t\r\n"


@dataclass(frozen=True)
class Attributes:
    """What is said of one file; None where nothing is."""

    language: str | None = None
    """The value of `linguist-language` as written; `codelm.languages.language_by_name` reads it."""
    vendored: bool | None = None
    generated: bool | None = None
    documentation: bool | None = None
    detectable: bool | None = None


NOTHING_SAID = Attributes()


@dataclass(frozen=True)
class _Line:
    matches: Pattern
    values: tuple[tuple[str, Value], ...]


class GitAttributes:
    """The `.gitattributes` of a repository: `files` maps folders (`""` is the top, or `src/lib`) to their texts."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._macros: dict[str, tuple[tuple[str, Value], ...]] = {"binary": tuple(_BINARY.items())}
        self._lines: dict[str, list[_Line]] = {}
        for folder, text in files.items():
            self._lines[folder.strip("/")] = self._parse(text, top=not folder.strip("/"))

    def __bool__(self) -> bool:
        return any(self._lines.values())

    def of(self, path: str) -> Attributes:
        """What is said of a file, by its path from the top of the repository with forward slashes."""
        if not self._lines:
            return NOTHING_SAID
        values = self.values(path)
        language = values.get(LANGUAGE)
        flags = (_boolean(values.get(flag)) for flag in _FLAGS)
        return Attributes(language if isinstance(language, str) and language else None, *flags)

    def values(self, path: str) -> dict[str, Value]:
        """Every attribute that a file has, of whatever name; those left unspecified are not in it."""
        found: dict[str, Value] = {}
        folder = path.rpartition("/")[0]
        while True:
            for line in reversed(self._lines.get(folder, ())):
                if line.matches(path[len(folder) + 1 if folder else 0 :]):
                    self._take(line.values, found)
            if not folder:
                break
            folder = folder.rpartition("/")[0]
        return {name: value for name, value in found.items() if value is not None}

    def _take(self, values: tuple[tuple[str, Value], ...], found: dict[str, Value]) -> None:
        waiting = list(values)
        while waiting:
            name, value = waiting.pop()
            if name not in found:
                found[name] = value
                if value is True:
                    waiting += self._macros.get(name, ())

    def _parse(self, text: str, top: bool) -> list[_Line]:
        if len(text) > _LARGEST_FILE:
            return []
        lines = []
        for line in text.removeprefix("\ufeff").split("\n"):
            pattern, words = _split(line)
            values = _values(words)
            if not pattern or values is None:
                continue
            if pattern.startswith("[attr]") and len(pattern) > len("[attr]"):
                name = pattern.removeprefix("[attr]")
                if top and _is_name(name):
                    self._macros[name] = values
            elif not pattern.startswith("!"):
                lines.append(_Line(compile_pattern(pattern), values))
        return lines


def _boolean(value: Value) -> bool | None:
    """As GitHub linguist reads a flag: anything but `-name` and `name=false` means yes."""
    return None if value is None else value not in (False, "false")


def _split(line: str) -> tuple[str, list[str]]:
    """The pattern of a line and the words after it; an empty pattern for blank lines and comments."""
    line = line.strip(_BLANK)
    if not line or line.startswith("#") or len(line.encode("utf-8", "surrogateescape")) >= _LONGEST_LINE:
        return "", []
    if line.startswith('"'):
        quoted = _unquote(line)
        if quoted is not None:
            return quoted[0], _words(quoted[1])
    first, *rest = _words(line)
    return first, rest


def _words(text: str) -> list[str]:
    return [word for word in re.split(f"[{_BLANK}]+", text) if word]


_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(?:([0-3][0-7]{2})|(.))")


def _unquote(line: str) -> tuple[str, str] | None:
    """The text between C-style quotes and what follows them, or None when the quotes are not well formed."""
    match = _QUOTED.match(line)
    if match is None:
        return None
    if any(not octal and letter not in _ESCAPES for octal, letter in _ESCAPE.findall(match[1])):
        return None
    raw = _ESCAPE.sub(lambda found: chr(int(found[1], 8)) if found[1] else _ESCAPES[found[2]], as_bytes(match[1]))
    return raw.encode("latin-1").decode("utf-8", "surrogateescape"), line[match.end() :]


def _values(words: list[str]) -> tuple[tuple[str, Value], ...] | None:
    """The attributes of a line in order, or None when a name is not allowed: git ignores the whole line then."""
    values: list[tuple[str, Value]] = []
    for word in words:
        name, equals, text = word.partition("=")
        value: Value = text if equals else True
        if word[0] in "-!":
            name, value = name[1:], False if word[0] == "-" else None
        if not _is_name(name):
            return None
        values.append((name, value))
    return tuple(values)


def _is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None
