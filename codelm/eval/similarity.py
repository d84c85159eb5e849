"""How alike a completion and what stood there are, as texts: no tests are needed, and nothing is run.

Exact match and edit similarity as CrossCodeEval and RepoBench report them, but that indentation counts for a match.
"""

import re

from rapidfuzz import fuzz

_WORD = re.compile(r"\w+")


def exact_match(text: str, gold: str) -> bool:
    """Whether they are the same but for white space at the ends of lines and empty lines around."""
    return _lines(text) == _lines(gold)


def edit_similarity(text: str, gold: str) -> float:
    """1 less the share of characters that must be inserted or deleted to make one of the other; 1 is the same."""
    return fuzz.ratio(text.strip(), gold.strip()) / 100


def identifier_match(text: str, gold: str) -> bool:
    """Whether both hold the same names, keywords and numbers in the same order, whatever stands between them."""
    return _WORD.findall(text) == _WORD.findall(gold)


def _lines(text: str) -> list[str]:
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n").split("\n")
