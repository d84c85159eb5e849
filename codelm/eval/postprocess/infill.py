"""Where a filled-in text ends that did not end of itself: before it breaks the program that it stands in."""

from codelm.eval.postprocess.python_names import parse

_MOST_LINES = 200


def cut_infill(prompt: str, completion: str, suffix: str, lines: int | None) -> str:
    """The longest beginning of a completion, in whole lines, with which the program is Python; else all of it.

    Args:
        lines: the completion is so many lines by definition; what follows them goes first.
    """
    if lines is not None:
        completion = _first_lines(completion, lines)
    if parse(prompt + completion + suffix) is not None:
        return completion
    pieces = completion.splitlines(keepends=True)
    for count in range(min(len(pieces), _MOST_LINES), 0, -1):
        beginning = "".join(pieces[:count])
        # A span ends within a line as often as at its end.
        for text in (beginning, beginning.removesuffix("\n")):
            if parse(prompt + text + suffix) is not None:
                return text
    return completion


def infill_finished(completion: str, lines: int | None) -> bool:
    """Whether more text cannot matter."""
    return lines is not None and completion.lstrip("\n").count("\n") >= lines


def _first_lines(completion: str, lines: int) -> str:
    blank = len(completion) - len(completion.lstrip("\n"))
    return completion[:blank] + "".join(completion[blank:].splitlines(keepends=True)[:lines])
