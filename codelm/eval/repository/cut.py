"""Where a completion of a gap ends: a model that writes from left to right goes on with whatever may follow in a file.

Python's grammar decides, so a bracket or a string that is open ends nothing.
"""

import ast


def cut(kind: str, gold: str, completion: str, language: str = "python") -> str:
    """The part of a completion that belongs to the gap, with a line end where it has none.

    A body or block ends before the first line that is indented less than it, where the text so far is complete, and
    before comments above that line; a statement at the end of the first complete one; a line at its end; a block in
    another language after as many lines as were masked.

    Args:
        gold: the masked text, for its indentation (which the model sees in the suffix, or owes to the prefix).
    """
    lines = completion.split("\n")
    return whole_lines("\n".join(lines[: _end(kind, gold, lines, language)]))


def whole_lines(text: str) -> str:
    """A text that ended of itself, with a line end where it has none."""
    text = text.rstrip()
    return f"{text}\n" if text else ""


def finished(kind: str, gold: str, completion: str, language: str = "python") -> bool:
    """Whether more text cannot change what `cut` keeps."""
    *whole, last = completion.split("\n")
    # A line that may go on ends a block by where it begins, but is not yet a line or a statement.
    lines = [*whole, last] if kind in ("body", "block") and language == "python" else whole
    return _end(kind, gold, lines, language) is not None


def _end(kind: str, gold: str, lines: list[str], language: str) -> int | None:
    """How many lines belong to the gap; None where all do, and more might."""
    count = 1 if kind == "line" else gold.rstrip("\n").count("\n") + 1
    if kind == "line" or language != "python":
        return count if len(lines) >= count else None
    return _first_statement(lines) if kind == "statement" else _block(lines, _indentation(gold))


def _indentation(text: str) -> int:
    return _width(next((line for line in text.split("\n") if line.strip() and not _is_comment(line)), ""))


def _block(lines: list[str], indentation: int) -> int | None:
    outside = [bool(line.strip()) and _width(line) < indentation for line in lines]
    for end in range(1, len(lines)):
        if outside[end] and not _is_comment(lines[end]) and _is_complete(lines[:end]):
            while end > 1 and (not lines[end - 1].strip() or (outside[end - 1] and _is_comment(lines[end - 1]))):
                end -= 1
            return end
    return None


def _width(line: str) -> int:
    return len(line.expandtabs()) - len(line.expandtabs().lstrip())


def _is_comment(line: str) -> bool:
    return line.strip().startswith("#")


def _first_statement(lines: list[str]) -> int | None:
    for end in range(1, len(lines) + 1):
        if any(line.strip() and not _is_comment(line) for line in lines[:end]) and _is_complete(lines[:end]):
            return end
    return None


def _is_complete(lines: list[str]) -> bool:
    """Whether indented lines are whole statements."""
    try:
        ast.parse("if 1:\n" + "\n".join(lines) + "\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
