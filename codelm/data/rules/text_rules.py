"""The rules on a text, in the order in which they are asked: each finds a value, and compares it with its bound.

`text_reason` takes the first finding that drops, `explain` all findings; there is no second implementation.
"""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from codelm.config.cleaning import FiltersSection
from codelm.data.rules.comments import comment_share
from codelm.data.rules.encoded import encoded_runs
from codelm.data.rules.generated import generated_by
from codelm.data.rules.thresholds import setting, thresholds
from codelm.data.rules.visible_text import visible_text

_ASCII = bytes(range(128))
_DIGITS = b"0123456789"
_LETTERS = bytes(byte for byte in range(128) if chr(byte).isalpha())
_XML_CHARACTERS = 100


@dataclass(frozen=True)
class Finding:
    """What one rule found in a file. `rule` is the reason under which dropped files are counted."""

    rule: str
    found: str | float | None
    """The value, or the words that the rule reacted to; None when there is nothing of the kind."""
    bound: float | None
    """What the value is compared with; None for rules without a number."""
    drops: bool
    setting: str | None
    """The key of the YAML that changes the bound; None for what cannot be switched off."""


class Measured:
    """A text and what is measured of it, each measure once and only when a rule asks."""

    def __init__(self, text: str, language: str) -> None:
        self.text, self.language = text, language

    @functools.cached_property
    def data(self) -> bytes:
        return self.text.encode("utf-8", "surrogatepass")

    @functools.cached_property
    def beyond_ascii(self) -> str:
        return "" if self.text.isascii() else self.data.translate(None, _ASCII).decode("utf-8", "surrogatepass")

    @functools.cached_property
    def _newlines(self) -> np.ndarray:
        """Where they are in the bytes."""
        return np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord("\n"))

    @property
    def lines(self) -> int:
        return len(self._newlines) + 1

    @functools.cached_property
    def longest_line(self) -> int:
        if not self.text.isascii():
            return max(map(len, self.text.split("\n")))
        ends = self._newlines
        if not len(ends):
            return len(self.text)
        between = int((ends[1:] - ends[:-1]).max()) - 1 if len(ends) > 1 else 0
        return max(between, int(ends[0]), len(self.text) - int(ends[-1]) - 1)

    @functools.cached_property
    def _without_letters(self) -> bytes:
        return self.data.translate(None, _LETTERS)

    @functools.cached_property
    def _ascii_digits(self) -> int:
        return len(self._without_letters) - len(self._without_letters.translate(None, _DIGITS))

    @property
    def _ascii_letters(self) -> int:
        return len(self.data) - len(self._without_letters)

    @property
    def alphanumeric(self) -> float:
        beyond = sum(map(str.isalnum, self.beyond_ascii))
        return (self._ascii_letters + self._ascii_digits + beyond) / len(self.text)

    @property
    def alphabetic(self) -> float:
        return (self._ascii_letters + sum(map(str.isalpha, self.beyond_ascii))) / len(self.text)

    @property
    def digits(self) -> float:
        return (self._ascii_digits + sum(map(str.isdecimal, self.beyond_ascii))) / len(self.text)

    @functools.cached_property
    def encoded(self) -> tuple[int, int]:
        return encoded_runs(self.text, self.data)

    @functools.cached_property
    def comments(self) -> float | None:
        return comment_share(self.text, self.language)

    @functools.cached_property
    def visible(self) -> int | None:
        """The characters that a reader of the page sees; None for what is no HTML."""
        return len(visible_text(self.text)) if self.language == "html" else None

    @property
    def visible_share(self) -> float | None:
        return None if self.visible is None else self.visible / len(self.text)


def findings(
    text: str, language: str, filters: FiltersSection, *, may_be_generated: bool = True, everything: bool = False
) -> Iterator[Finding]:
    """What the rules find in a text, in their order: with `everything` all of them, else those that drop it.

    It is lazy, so a caller may stop at the first. `may_be_generated` is False for files that .gitattributes call not
    generated.
    """
    if not text or text.isspace():
        yield Finding("empty", None, None, True, None)
        return
    measured = Measured(text, language)
    bounds = thresholds(filters, language)
    words = generated_by(text, language)
    drops = words is not None and may_be_generated and bounds.drop_generated
    if drops or everything:
        yield Finding("generated", words, None, drops, setting(filters, language, "drop_generated"))
    for name, rule, measure in _RULES:
        bound = getattr(bounds, name)
        if bound is None or (value := measure(measured)) is None:
            continue
        drops = value < bound if name in _LEAST else value > bound
        if drops or everything:
            yield Finding(rule, value, bound, drops, setting(filters, language, name))
    declared = "<?xml version=" in text[:_XML_CHARACTERS]
    drops = declared and bounds.drop_xml
    if drops or everything:
        yield Finding(
            "xml", "<?xml version=" if declared else None, None, drops, setting(filters, language, "drop_xml")
        )


_RULES: list[tuple[str, str, Callable[[Measured], float | None]]] = [
    ("min_characters", "few_characters", lambda measured: len(measured.text)),
    ("fewest_lines", "few_lines", lambda measured: measured.lines),
    ("max_lines", "many_lines", lambda measured: measured.lines),
    ("max_line_length", "long_line", lambda measured: measured.longest_line),
    ("max_mean_line_length", "long_lines", lambda measured: len(measured.text) / measured.lines),
    ("min_alphanumeric", "few_letters", lambda measured: measured.alphanumeric),
    ("min_alphabetic", "few_alphabetic", lambda measured: measured.alphabetic),
    ("max_digits", "many_digits", lambda measured: measured.digits),
    ("max_encoded_run", "encoded_data", lambda measured: measured.encoded[0]),
    ("max_encoded_share", "encoded_data", lambda measured: measured.encoded[1] / len(measured.text)),
    ("least_comments", "few_comments", lambda measured: measured.comments),
    ("max_comments", "many_comments", lambda measured: measured.comments),
    ("min_visible_text", "little_visible_text", lambda measured: measured.visible_share),
    ("min_visible_characters", "little_visible_text", lambda measured: measured.visible),
]
"""Name of the bound, reason under which drops are counted, what is measured (None: does not apply)."""
_LEAST = frozenset(name for name, _, _ in _RULES if not name.startswith("max_"))
