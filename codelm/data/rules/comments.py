"""The share of a text that is comments, for the filters of SantaCoder and OpenCoder."""

import re

# Strings are matched too, so that a comment's sign inside one is none. Possessive, so that no step back is remembered.
_DOUBLE = r'"(?:[^"\\\n]++|\\.)*+"'
_SINGLE = r"'(?:[^'\\\n]++|\\.)*+'"
_BACKTICK = r"`(?:[^`\\]++|\\.)*+`"
_SLASHES = r"(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z))"
_HASH = r"(?P<comment>(?<!\S)#[^\n]*)"
_DOCSTRING = r"(?P<comment>(?:(?<=\n)|\A)[ \t]*[rRuU]?(?P<q>\"\"\"|''').*?(?:(?P=q)|\Z)|#[^\n]*)"
_TRIPLE = r"(?:\"\"\".*?\"\"\"|'''.*?''')"
_MARKUP = r"(?P<comment><!--.*?(?:-->|\Z))"


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.DOTALL)


_C = _pattern(_SLASHES, _DOUBLE, _SINGLE)
_SCRIPT = _pattern(_SLASHES, _DOUBLE, _SINGLE, _BACKTICK)
_PYTHON = _pattern(_DOCSTRING, _TRIPLE, _DOUBLE, _SINGLE)
_PATTERNS = {
    "java": _C,
    "c": _C,
    "cpp": _C,
    "css": _pattern(r"(?P<comment>/\*.*?(?:\*/|\Z))", _DOUBLE, _SINGLE),
    "javascript": _SCRIPT,
    "typescript": _SCRIPT,
    "jsx": _SCRIPT,
    "go": _SCRIPT,
    # A single quote begins a lifetime as well as a character.
    "rust": _pattern(_SLASHES, _DOUBLE, r"'(?:\\.|[^'\\\n])'"),
    "php": _pattern(r"(?P<comment>//[^\n]*|/\*.*?(?:\*/|\Z)|(?<!\S)#[^\n]*)", _DOUBLE, _SINGLE),
    "sql": _pattern(r"(?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))", _DOUBLE, _SINGLE),
    "python": _PYTHON,
    "jupyter": _PYTHON,
    "ruby": _pattern(r"(?P<comment>(?:(?<=\n)|\A)=begin\b.*?(?:\n=end\b|\Z)|(?<!\S)#[^\n]*)", _DOUBLE, _SINGLE),
    "r": _pattern(_HASH, _DOUBLE, _SINGLE),
    "shell": _pattern(_HASH, _DOUBLE, _SINGLE),
    "html": _pattern(_MARKUP),
    "vue": _pattern(r"(?P<comment><!--.*?(?:-->|\Z)|/\*.*?(?:\*/|\Z)|(?<![\S])//[^\n]*)"),
}


def comment_share(text: str, language: str) -> float | None:
    """The share of the characters of a text that are in comments; None for languages without any (Markdown, …)."""
    pattern = _PATTERNS.get(language)
    if pattern is None or not text:
        return None
    comments = (match["comment"] for match in pattern.finditer(text))
    return sum(len(comment) for comment in comments if comment) / len(text)
