"""Where a completion of a gap ends: a model that writes from left to right goes on with whatever may follow in a file.

Python's grammar decides, so a bracket or a string that is open ends nothing.
"""

import ast


def cut(kind: str, gold: str, completion: str, language: str = "python") -> str:
    """The part of a completion that belongs to the gap, with a line end where it has none.

    A body or block ends before the first line that is indented less than it, where the text so far is complete; a
    statement at the end of the first complete one; a line at its end; a block in another language after as many lines
    as were masked.

    Args:
        gold: the masked text, for its indentation (which the model sees in the suffix, or owes to the prefix).
    """
    lines = completion.split("\n")
    if kind == "line":
        kept = lines[:1]
    elif language != "python":
        kept = lines[: gold.rstrip("\n").count("\n") + 1]
    elif kind == "statement":
        kept = _first_statement(lines)
    else:
        kept = _block(lines, _indentation(gold))
    text = "\n".join(kept).rstrip()
    return f"{text}\n" if text else ""


def _indentation(text: str) -> int:
    first = next((line for line in text.split("\n") if line.strip() and not line.strip().startswith("#")), "")
    return len(first.expandtabs()) - len(first.expandtabs().lstrip())


def _block(lines: list[str], indentation: int) -> list[str]:
    for end in range(1, len(lines)):
        line = lines[end].expandtabs()
        outside = line.strip() and len(line) - len(line.lstrip()) < indentation
        if outside and not line.strip().startswith("#") and _is_complete(lines[:end]):
            return lines[:end]
    return lines


def _first_statement(lines: list[str]) -> list[str]:
    for end in range(1, len(lines) + 1):
        if any(line.strip() and not line.strip().startswith("#") for line in lines[:end]) and _is_complete(lines[:end]):
            return lines[:end]
    return lines


def _is_complete(lines: list[str]) -> bool:
    """Whether indented lines are whole statements."""
    try:
        ast.parse("if 1:\n" + "\n".join(lines) + "\n")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
