"""Which known word was meant by a misspelt one."""

from collections.abc import Iterable
from difflib import get_close_matches

from rapidfuzz.distance import OSA

MAX_LETTERS = 64


def closest(word: str, known: Iterable[str], limit: int | None = None) -> str | None:
    """The known word nearest to `word`, or None when nothing is near enough.

    `limit` is the number of slips allowed; by default one for every three letters, and failing that the words may
    share most of their letters (`max_sequence_length`, `max_seq_len`). Capitals, hyphens, underscores do not count.
    """
    folded, known = _fold(word), list(known)
    if len(word) > MAX_LETTERS:
        return None
    allowed = max(1, len(folded) // 3) if limit is None else limit
    ranked = [
        (slips(folded, _fold(other)), other[:1] != word[:1], abs(len(other) - len(word)), other) for other in known
    ]
    best = min(ranked, default=None)
    if best is not None and best[0] <= allowed and best[0] < max(len(folded), len(best[3])):
        return best[3]
    alike = get_close_matches(word, known, n=1, cutoff=0.7) if limit is None else []
    return alike[0] if alike else None


def slips(first: str, second: str) -> int:
    """How many letters must be inserted, deleted, changed or swapped with their neighbour."""
    return OSA.distance(first, second)


def _fold(word: str) -> str:
    return word.lower().replace("-", "").replace("_", "").replace(" ", "")
