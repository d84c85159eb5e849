"""The default: of a completion, the part that the benchmark's function needs; a correct program stays correct.

Python is read by its grammar:

1. The body of the prompt's function ends before the first line at the left margin, blank lines and comments apart,
   before which the text is complete Python (a line inside a string or bracket is not at the margin in this sense).
2. What follows is read as far as it parses; prose, a code fence or a torn last statement end the reading.
3. Of its statements those are kept that give a name a meaning which the body, or a kept statement, uses: definitions
   (with their decorators), imports, assignments, also when they stand inside `if`, `for`, `with` or `try`, and calls
   that change what such a name stands for: of its method, as `cache.update(…)`, of a function that is given it, as
   `heappush(heap, 0)`, or that fills it, as `build()`, and of `sys.setrecursionlimit`. Asserts, prints, docstrings,
   `if __name__ == …` and other functions go. A new definition of the prompt's own function is kept, since Python
   would take it, unless the completion was cut off in the middle of it.
4. Where the body does not parse at all, a marker such as `<|endoftext|>` or a code fence inside it ends it.

Where the prompt is a description alone, its "body" is empty, and all of the program is what rule 3 keeps.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codelm.eval.postprocess.python_names import Names, defines, names_of, parse, used_names

_MARKERS = ("<|endoftext|>", "</s>", "<|im_end|>", "<|end|>", "<|file_separator|>", "<file_sep>", "```")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_MOST_BOUNDARIES = 400
_MOST_CHARACTERS = 1 << 18
"""No solution is longer; the parser would take minutes and gigabytes for what a model may write instead."""


def cut_python_function(prompt: str, completion: str, entry_point: str, ended: bool = True) -> str:
    """The part of a completion that the prompt's function needs (see the module's text).

    Args:
        ended: whether the completion came to an end of itself.
    """
    completion = completion[:_MOST_CHARACTERS]
    text = prompt + completion
    end = body_end(text, len(prompt))
    if end is None:
        end = _marker(text, len(prompt))
    body, rest = text[:end], text[end:]
    tree = parse(body)
    if tree is None or not rest.strip():
        return body[len(prompt) :]
    statements, unread = statements_of(rest)
    if statements and not ended and not unread and defines(statements[-1].node, entry_point):
        statements.pop()
    names = names_of([*tree.body, *(statement.node for statement in statements)])
    kept, _ = choose(body, entry_point, names, statements)
    parts = [statement.source for statement, keep in zip(statements, kept, strict=True) if keep]
    return "\n".join([body[len(prompt) :], *parts]) if parts else body[len(prompt) :]


@dataclass(frozen=True)
class Statement:
    """A statement at the margin, and its text with its decorators."""

    node: ast.stmt
    source: str


def _margin_lines(text: str, start: int, most: int = _MOST_BOUNDARIES) -> Iterator[int]:
    """Where lines begin at the left margin, from `start` on, blank lines and comments apart; a bounded number."""
    found = 0
    for match in re.finditer(r"^(?=[^\s#])", text[start:], re.MULTILINE):
        position = start + match.start()
        if position == start and start > 0 and text[start - 1] != "\n":
            continue
        found += 1
        if found > most:
            return
        yield position


def body_end(text: str, start: int, most: int = _MOST_BOUNDARIES) -> int | None:
    """Where the function's body ends; None when the text is nowhere complete Python."""
    for position in _margin_lines(text, start, most):
        if parse(text[:position]) is not None:
            return position
    return len(text) if parse(text) is not None else None


def _marker(text: str, start: int) -> int:
    places = [place for marker in _MARKERS if (place := text.find(marker, start)) >= 0]
    return min(places, default=next(_margin_lines(text, start), len(text)))


def statements_of(rest: str) -> tuple[list[Statement], str]:
    """The statements of the longest part, up to a line at the margin, that parses; and what is behind that part."""
    tree = parse(rest)
    if tree is not None:
        return _split(rest, tree), ""
    for position in reversed(list(_margin_lines(rest, 0))):
        tree = parse(rest[:position])
        if tree is not None:
            return _split(rest[:position], tree), rest[position:]
    return [], rest


def _split(source: str, tree: ast.Module) -> list[Statement]:
    lines = _LINE.findall(source)
    statements = []
    for node in tree.body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        statements.append(Statement(node, "".join(lines[first - 1 : node.end_lineno])))
    return statements


def choose(body: str, entry_point: str, names: Names, statements: Sequence[Statement]) -> tuple[list[bool], set[str]]:
    """Which of the statements behind a body are kept, and the names that they and the body use."""
    needed = used_names(body) | {entry_point}
    kept = [False] * len(statements)
    changed = True
    while changed:
        changed = False
        for place, statement in enumerate(statements):
            if not kept[place] and names.gives_meaning_to(statement.node, needed):
                kept[place] = changed = True
                needed |= used_names(statement.source)
    return kept, needed
