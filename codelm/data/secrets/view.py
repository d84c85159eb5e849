"""A text as the secret scan reads it: bytes, one a character, and where long words begin and end.

Every character outside ASCII becomes "?", so that an offset in the bytes is the offset of the character. Regular
expressions over bytes and numpy over the same bytes then find candidates at memory speed.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DIGITS = b"0123456789"
WORD, DIGIT, ADDRESS, LOCAL = 1, 2, 4, 8
"""Classes of characters: of a long word, a digit, of an IPv6 address, of what stands before the `@` of an address."""


def _classes() -> bytes:
    members = {
        WORD: _LETTERS + _DIGITS + b"_-+/=",
        DIGIT: _DIGITS,
        ADDRESS: b"0123456789abcdefABCDEF:",
        LOCAL: _LETTERS + _DIGITS + b"_-+.%!#$&*~^?",
    }
    return bytes(sum(flag for flag, characters in members.items() if byte in characters) for byte in range(256))


_CLASSES = _classes()


@dataclass(frozen=True)
class View:
    """`data` has as many bytes as the text has characters."""

    data: bytes

    @classmethod
    def of(cls, text: str) -> "View":
        return cls(text.encode("ascii", "replace"))

    @cached_property
    def low(self) -> bytes:
        return self.data.lower()

    @cached_property
    def codes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.data, np.uint8)

    @cached_property
    def classes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.data.translate(_CLASSES), np.uint8)

    def runs(self, flag: int, least: int) -> tuple[list[int], list[int]]:
        """Starts and ends of the longest stretches of at least `least` characters of one class."""
        inside = (self.classes & flag) != 0
        if len(inside) < least:
            return [], []
        width = 1
        while width < least:
            step = min(width, least - width)
            inside = inside[:-step] & inside[step:]
            width += step
        edges = np.flatnonzero(np.diff(inside, prepend=False, append=False))
        return edges[::2].tolist(), (edges[1::2] + least - 1).tolist()

    def line_start(self, position: int, reach: int) -> int:
        """Where the line of `position` begins, at most `reach` characters before it."""
        least = max(0, position - reach)
        return max(least, self.data.rfind(b"\n", least, position) + 1)

    def line_end(self, position: int, reach: int) -> int:
        most = position + reach
        end = self.data.find(b"\n", position, most)
        return min(most, len(self.data)) if end < 0 else end
