"""Small changes to what a mask holds: tests that notice too few of them judge nothing. And stubs, which do nothing."""

import ast
import copy
import hashlib
from collections.abc import Iterator
from typing import Any

from codelm.eval.repository.masks import Mask

STUBS = ("pass", "return None", "raise NotImplementedError")

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip


def stubs(mask: Mask) -> list[tuple[str, str]]:
    """Each stub's name and what stands in the mask's place."""
    end = "\r\n" if mask.text.endswith("\r\n") else "\n"
    return [(stub, f"{mask.indentation}{stub}{end}") for stub in STUBS]


def mutants(mask: Mask, count: int, seed: int) -> list[tuple[str, str]]:
    """At most so many mutants: each a description and what stands in the mask's place, drawn by a hash."""
    found: dict[str, str] = {}
    reference = ast.dump(mask.function.source.tree)
    for what, start, end, replacement in _changes(mask):
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


Change = tuple[str, tuple[int, int], tuple[int, int], str]
"""What it is, where the replaced text begins and ends (line, byte), and what comes instead."""


def _changes(mask: Mask) -> Iterator[Change]:
    left_out = _left_out(mask.function.node)
    for node in ast.walk(mask.function.node):
        inside = (
            mask.first <= getattr(node, "lineno", 0) and (getattr(node, "end_lineno", None) or 1 << 30) <= mask.last
        )
        if not inside or node in left_out:
            continue
        if isinstance(node, ast.expr):
            for what, changed in _expressions(node):
                yield what, *_place(node), f"({ast.unparse(ast.fix_missing_locations(changed))})"
        elif isinstance(node, ast.stmt):
            for what, changed in _statements(node):
                yield what, *_place(node), changed


def _left_out(function: ast.AST) -> set[ast.AST]:
    """Annotations, docstrings, and the insides of f-strings, whose places cannot be replaced by themselves."""
    found: set[ast.AST] = set()
    for node in ast.walk(function):
        parts: list[Any] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.JoinedStr):
            parts += [*node.values]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            parts += [node, node.value]
        for part in parts:
            if part is not None:
                found.update(ast.walk(part))
    return found


def _expressions(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            changed = copy.deepcopy(node)
            changed.ops[place] = _COMPARISONS[type(operator)]()
            yield "another comparison", changed
    elif isinstance(node, ast.BoolOp):
        changed = copy.deepcopy(node)
        changed.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        yield "and for or", changed
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield "without its sign", copy.deepcopy(node.operand)
    elif isinstance(node, ast.BinOp):
        changed = copy.deepcopy(node)
        changed.op = _OPERATORS.get(type(node.op), ast.Add)()
        yield "another operator", changed
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.IfExp):
        yield (
            "the other branch",
            ast.IfExp(copy.deepcopy(node.test), copy.deepcopy(node.orelse), copy.deepcopy(node.body)),
        )
    elif isinstance(node, ast.Call) and node.args and not any(isinstance(arg, ast.Starred) for arg in node.args):
        yield "its argument for a call", copy.deepcopy(node.args[0])
        if len(node.args) > 1:
            changed = copy.deepcopy(node)
            changed.args[:2] = reversed(changed.args[:2])
            yield "arguments swapped", changed


def _constants(node: ast.Constant) -> Iterator[tuple[str, ast.expr]]:
    value = node.value
    if isinstance(value, bool):
        yield "the other truth", ast.Constant(not value)
    elif isinstance(value, int | float):
        yield "one more", ast.Constant(value + 1)
    elif isinstance(value, str | bytes):
        yield (
            "another text",
            ast.Constant(type(value)() if value else "codelm" if isinstance(value, str) else b"codelm"),
        )


def _statements(node: ast.stmt) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.If | ast.While):
        return
    if isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield "returns None", "return None"
    elif isinstance(node, ast.Assign | ast.AugAssign | ast.Expr | ast.Delete | ast.Raise):
        yield "left out", "pass"
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield "assigns None", f"{node.targets[0].id} = None"
    elif isinstance(node, ast.Break):
        yield "continue for break", "continue"
    elif isinstance(node, ast.Continue):
        yield "break for continue", "break"


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _place(node: ast.expr | ast.stmt) -> tuple[tuple[int, int], tuple[int, int]]:
    return (node.lineno, node.col_offset), (node.end_lineno or node.lineno, node.end_col_offset or 0)


def _spliced(mask: Mask, start: tuple[int, int], end: tuple[int, int], replacement: str) -> str | None:
    """The mask's text with a part replaced; columns count bytes."""
    lines = mask.function.source.lines
    before = mask.function.source.between(mask.first, start[0] - 1) + lines[start[0] - 1].encode()[: start[1]].decode()
    behind = lines[end[0] - 1].encode()[end[1] :].decode() + mask.function.source.between(end[0] + 1, mask.last)
    return before + replacement + behind
