"""Small changes to a program, one at a time: tests, or a judge, that let them pass judge nothing.

Python's are changes of its syntax tree, put into the text; other languages' are changes of C's operators and numbers.
"""

import ast
import copy
import hashlib
import re
from collections.abc import Iterator
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip

Change = tuple[str, tuple[int, int], tuple[int, int], str]
"""What it is, where the replaced text begins and ends (line, byte), and what comes instead."""


def python_changes(root: ast.AST, first: int, last: int) -> Iterator[Change]:
    """Changes to what stands on the lines `first` to `last` of a tree, both included."""
    left_out = _left_out(root)
    for node in ast.walk(root):
        inside = first <= getattr(node, "lineno", 0) and (getattr(node, "end_lineno", None) or 1 << 30) <= last
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


def python_mutants(before: str, text: str, behind: str, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """At most so many mutants of a part of a program: each a description and what stands in its place, drawn by a hash.

    Args:
        before, behind: the rest of the program; none where all of it is no Python.
    """
    source = (before + text + behind).encode()
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return []
    low, high = len(before.encode()), len(source) - len(behind.encode())
    starts = [0]
    for line in source.split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    reference, found = ast.dump(tree), {}
    for what, start, end, replacement in python_changes(tree, 1, len(starts)):
        first, last = (starts[line - 1] + column for line, column in (start, end))
        if not low <= first < last <= high:
            continue
        changed = source[low:first] + replacement.encode() + source[last:high]
        try:
            if ast.dump(ast.parse(source[:low] + changed + source[high:])) != reference:
                line = 1 + source[low:first].count(b"\n")
                found.setdefault(changed.decode(), f"line {line}: {what}")
        except (SyntaxError, ValueError):
            continue
    ranked = sorted(found, key=lambda text: hashlib.sha256(f"{seed} {before} {text}".encode()).digest())
    return [(found[text], text) for text in ranked[:count]]


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
    """Each change's description and the changed text; for any language with C's operators."""
    for pattern, new in _SWAPS:
        for match in pattern.finditer(text):
            yield f"{new} for {match[0]}", text[: match.start()] + new + text[match.end() :]
    for match in _NUMBER.finditer(text):
        more = str(int(match[0]) + 1)
        yield f"{more} for {match[0]}", text[: match.start()] + more + text[match.end() :]
