"""Git's patterns on paths (gitignore(5)), as `.gitattributes` has them: they match files, never folders.

So `vendor/` matches nothing and `vendor/**` everything below. Everything is compared as bytes, as git does. No pattern
backtracks, so a hostile one takes no longer than its length times the path's.
"""

import functools
import re

_Token = str | frozenset[str]
"""`*`, `**`, `?`, `/`, `\\/`, `=x` for the literal character x, or a set of characters."""
_Segment = re.Pattern[str] | int
"""What matches one name of a path, or for `**` the least number of names."""
_STARS = ("*", "**")


def as_bytes(text: str) -> str:
    """The text's UTF-8 bytes as a string of one character a byte."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


class Pattern:
    """A pattern of `.gitattributes`; calling it with a path relative to its folder says whether that file matches."""

    def __init__(self, pattern: str) -> None:
        text = as_bytes(pattern)
        self.by_name = "/" not in text
        text = text.removeprefix("/")
        # Git compares what precedes the first wildcard by itself, so that `**` right behind it crosses folders.
        self.start = re.split(r"[*?[\\]", text, maxsplit=1)[0]
        tokens = _tokens(text[len(self.start) :])
        self.never = pattern.endswith("/") or tokens is None
        self.exact = not tokens
        self.segments = _segments(tokens or [], crossing=not self.by_name)

    def __call__(self, path: str) -> bool:
        if self.never:
            return False
        name = as_bytes(path.rpartition("/")[2] if self.by_name else path)
        if not name.startswith(self.start):
            return False
        rest = name[len(self.start) :]
        if self.exact:
            return not rest
        return _match_segments(self.segments, rest.split("/"))


@functools.lru_cache(maxsize=4096)
def compile_pattern(pattern: str) -> Pattern:
    """A pattern, ready to be matched."""
    return Pattern(pattern)


def _match_segments(segments: list[_Segment], names: list[str]) -> bool:
    reached = {0}
    for segment in segments:
        if isinstance(segment, int):
            reached = set(range(min(reached, default=len(names)) + segment, len(names) + 1))
        else:
            reached = {at + 1 for at in reached if at < len(names) and segment.fullmatch(names[at])}
    return len(names) in reached


def _segments(tokens: list[_Token], crossing: bool) -> list[_Segment]:
    segments: list[_Segment] = []
    waiting: list[_Token] = []
    for token in [*tokens, ""]:
        if token not in ("", "/", "\\/"):
            waiting.append(token)
        elif crossing and waiting == ["**"]:
            # `**` needs a name at the end, and before a slash that is escaped.
            segments.append(0 if token == "/" else 1)
            waiting = []
        else:
            segments.append(_expression(waiting))
            waiting = []
    return segments


def _expression(tokens: list[_Token]) -> re.Pattern[str]:
    """One segment: the pieces between stars are found leftmost and never tried again, so no pattern backtracks."""
    pieces: list[list[str]] = [[]]
    for token in tokens:
        if token in _STARS:
            pieces.append([])
        else:
            pieces[-1].append(_one_character(token))
    first, *others = ("".join(piece) for piece in pieces)
    if not others:
        return re.compile(first, re.DOTALL)
    middle = "".join(f"(?>.*?{piece})" for piece in others[:-1] if piece)
    return re.compile(f"{first}{middle}.*{others[-1]}", re.DOTALL)


def _one_character(token: _Token) -> str:
    if token == "?":
        return "."
    if isinstance(token, str):
        return re.escape(token[1:])
    return f"[{''.join(re.escape(character) for character in sorted(token))}]" if token else "(?!)"


def _tokens(text: str) -> list[_Token] | None:
    """The tokens of a pattern, or None when it can match nothing (a set that is not closed, a lone last backslash)."""
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        character = text[at]
        at += 1
        if character == "\\":
            if at == len(text):
                return None
            tokens.append("\\/" if text[at] == "/" else "=" + text[at])
            at += 1
        elif character == "*":
            stars = 1
            while at < len(text) and text[at] == "*":
                stars, at = stars + 1, at + 1
            tokens.append("*" if stars == 1 else "**")
        elif character == "[":
            parsed = _character_set(text, at)
            if parsed is None:
                return None
            characters, at = parsed
            tokens.append(characters)
        else:
            tokens.append(character if character in "?/" else "=" + character)
    return tokens


_ALL = frozenset(map(chr, range(256)))
_ASCII = [chr(code) for code in range(128)]
_CLASSES = {
    "alnum": str.isalnum,
    "alpha": str.isalpha,
    "blank": " \t".__contains__,
    "cntrl": lambda c: c < " " or c == "\x7f",
    "digit": str.isdigit,
    "graph": lambda c: "!" <= c <= "~",
    "lower": str.islower,
    "print": lambda c: " " <= c <= "~",
    "punct": lambda c: "!" <= c <= "~" and not c.isalnum(),
    "space": " \t\n\v\f\r".__contains__,
    "upper": str.isupper,
    "xdigit": "0123456789abcdefABCDEF".__contains__,
}


def _character_set(text: str, at: int) -> tuple[frozenset[str], int] | None:
    """The characters of `[…]` whose first character is at `at`, and where it ends; None when it is not well formed."""
    negated = text[at : at + 1] in ("!", "^") and at < len(text)
    at += negated
    found: set[str] = set()
    before = ""
    first = True
    while first or text[at : at + 1] != "]":
        first = False
        character = text[at : at + 1]
        if not character:
            return None
        at += 1
        if character == "[" and text[at : at + 1] == ":":
            end = text.find("]", at + 1)
            if end < 0:
                return None
            if text[end - 1] == ":" and end - 1 > at:
                if text[at + 1 : end - 1] not in _CLASSES:
                    return None
                found.update(filter(_CLASSES[text[at + 1 : end - 1]], _ASCII))
                at, before = end + 1, ""
                continue
        elif character == "-" and before and text[at : at + 1] not in ("", "]"):
            at += text[at] == "\\"
            if at >= len(text):
                return None
            found.update(map(chr, range(ord(before), ord(text[at]) + 1)))
            at, before = at + 1, ""
            continue
        elif character == "\\":
            if at >= len(text):
                return None
            character = text[at]
            at += 1
        found.add(character)
        before = character
    chosen = _ALL - found if negated else frozenset(found)
    return chosen - {"/"}, at + 1
