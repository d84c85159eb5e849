"""Small changes to what a mask holds: tests that notice too few of them judge nothing. And stubs, which do nothing."""

import ast
import hashlib

from codelm.eval.mutations import python_changes
from codelm.eval.repository.masks import Mask

STUBS = ("pass", "return None", "raise NotImplementedError")


def stubs(mask: Mask) -> list[tuple[str, str]]:
    """Each stub's name and what stands in the mask's place."""
    end = "\r\n" if mask.text.endswith("\r\n") else "\n"
    return [(stub, f"{mask.indentation}{stub}{end}") for stub in STUBS]


def mutants(mask: Mask, count: int, seed: int) -> list[tuple[str, str]]:
    """At most so many mutants: each a description and what stands in the mask's place, drawn by a hash."""
    found: dict[str, str] = {}
    reference = ast.dump(mask.function.source.tree)
    for what, start, end, replacement in python_changes(mask.function.node, mask.first, mask.last):
        text = _spliced(mask, start, end, replacement)
        if text is None or text in found:
            continue
        try:
            tree = ast.parse(mask.function.source.replaced(mask.first, mask.last, text))
        except (SyntaxError, ValueError):
            continue
        if ast.dump(tree) != reference:
            found[text] = f"line {start[0] - mask.function.head + 1}: {what}"
    ranked = sorted(found, key=lambda text: hashlib.sha256(f"{seed} {mask.id} {text}".encode()).digest())
    return [(found[text], text) for text in ranked[:count]]


def _spliced(mask: Mask, start: tuple[int, int], end: tuple[int, int], replacement: str) -> str | None:
    """The mask's text with a part replaced; columns count bytes."""
    lines = mask.function.source.lines
    before = mask.function.source.between(mask.first, start[0] - 1) + lines[start[0] - 1].encode()[: start[1]].decode()
    behind = lines[end[0] - 1].encode()[end[1] :].decode() + mask.function.source.between(end[0] + 1, mask.last)
    return before + replacement + behind
