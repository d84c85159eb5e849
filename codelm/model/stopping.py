"""Stop strings: end a sample at the token that completes one of them, however the string is split into tokens."""

from collections.abc import Callable, Sequence

from codelm.errors import EvaluationError


class StopStrings:
    """A stop rule for `codelm.model.generation.generate`; the tokens stay, `cut` shortens their text.

    Only the text's end is decoded at each token: as many bytes as the longest string has, and the last token's.

    Args:
        decode: the text of token ids; ids that end inside a character may give U+FFFD for it.
        strings: any of them ends a sample.

    Raises:
        EvaluationError: a string is empty.
    """

    def __init__(self, decode: Callable[[list[int]], str], strings: Sequence[str]) -> None:
        if not all(strings):
            raise EvaluationError("a stop string is empty: it would end every completion before it begins")
        self.decode = decode
        self.strings = tuple(strings)
        # A token is at least a byte, but for special ones; a character that the window's edge cuts is at most four.
        self._window = max((len(string.encode()) for string in strings), default=0) + 4

    def __call__(self, place: int, ids: list[int]) -> bool:
        """Whether the text of a sample's new tokens, all but the last of which have been asked about, holds one."""
        if not self.strings:
            return False
        text = self._end(ids)
        return any(string in text for string in self.strings)

    def cut(self, text: str) -> str:
        """The text before the first stop string."""
        return text[: min((place for s in self.strings if (place := text.find(s)) >= 0), default=len(text))]

    def _end(self, ids: list[int]) -> str:
        last = len(self.decode(ids[-1:]).encode())
        count = self._window
        while True:
            text = self.decode(ids[-count:])
            if count >= len(ids) or len(text.encode()) >= self._window + last:
                return text
            count *= 2
