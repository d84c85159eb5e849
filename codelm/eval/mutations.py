"""Small changes to a program's text, one at a time: a judge that lets them pass judges nothing.

For any language with C's operators. `codelm.eval.repository.mutants` changes Python's syntax trees instead.
"""

import re
from collections.abc import Iterator

_SWAPS = (
    (re.compile(r"(?<=[\s\w)\]])<(?=[\s\w(\[])(?!\w+>)"), ">"),
    (re.compile(r"(?<= )\+(?= )"), "-"),
    (re.compile(r"(?<= )-(?= )"), "+"),
    (re.compile(r"\+="), "-="),
    (re.compile(r"-="), "+="),
    (re.compile(r"=="), "!="),
    (re.compile(r"&&"), "||"),
    (re.compile(r"\btrue\b"), "false"),
)
_NUMBER = re.compile(r"(?<![\w.$])\d+(?![\w.])")


def text_mutants(text: str) -> Iterator[tuple[str, str]]:
    """Each change's description and the changed text."""
    for pattern, new in _SWAPS:
        for match in pattern.finditer(text):
            yield f"{new} for {match[0]}", text[: match.start()] + new + text[match.end() :]
    for match in _NUMBER.finditer(text):
        more = str(int(match[0]) + 1)
        yield f"{more} for {match[0]}", text[: match.start()] + more + text[match.end() :]
