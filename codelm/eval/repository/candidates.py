"""The functions and methods that a benchmark may mask, and why others may not."""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

_PROPERTIES = ("property", "cached_property", "cachedproperty", "setter", "getter", "deleter", "abstractproperty")
_ABSTRACT = ("abstractmethod", "overload", "abstractproperty", "abstractclassmethod", "abstractstaticmethod")


@dataclass(frozen=True, eq=False)
class Source:
    """A file of Python: its text, its lines as Python counts them (from 1, with their ends), its tree."""

    path: str
    text: str
    lines: tuple[str, ...]
    tree: ast.Module

    def between(self, first: int, last: int) -> str:
        """The text of lines `first` to `last`, both included."""
        return "".join(self.lines[first - 1 : last])

    def replaced(self, first: int, last: int, text: str) -> str:
        """The whole text, with lines `first` to `last` replaced."""
        return self.between(1, first - 1) + text + self.between(last + 1, len(self.lines))


@dataclass(frozen=True, eq=False)
class Function:
    """A function whose body can be masked.

    Attributes:
        name: qualified, such as `Class.method`.
        head: the first line of its definition, decorators included.
        first, last: lines of the body without the docstring.
    """

    source: Source
    node: FunctionNode
    name: str
    head: int
    first: int
    last: int

    @property
    def id(self) -> str:
        """Path and name."""
        return f"{self.source.path}::{self.name}"


def parse(path: str, text: str) -> Source | None:
    """Read a file, or None where this Python cannot, or where it counts lines otherwise."""
    if "\r" in text.replace("\r\n", "") or "\f" in text:
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return Source(path, text, tuple(re.findall(r"[^\n]*\n|[^\n]+", text)), tree)


def find_functions(
    source: Source, covered: Mapping[int, set[str]], min_lines: int, max_lines: int, refused: Counter[str]
) -> Iterator[Function]:
    """The functions of a file whose bodies tests run.

    Args:
        covered: the tests that run each line.
        min_lines, max_lines: lines of a body that hold code.
        refused: counts the others by reason.
    """
    for node, name in _definitions(source.tree, ""):
        reason, function = _examine(source, node, name, min_lines, max_lines)
        if function is not None and not any(line in covered for line in range(function.first, function.last + 1)):
            reason, function = "no test runs it", None
        if function is None:
            refused[reason] += 1
        else:
            yield function


def _definitions(tree: ast.AST, prefix: str) -> Iterator[tuple[FunctionNode, str]]:
    """Functions of modules and classes, also below `if` and `try`; functions inside functions belong to those."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FunctionNode):
            yield node, f"{prefix}{node.name}"
        elif isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from _definitions(node, prefix)


def _examine(
    source: Source, node: FunctionNode, name: str, min_lines: int, max_lines: int
) -> tuple[str, Function | None]:
    decorators = {_last_name(decorator) for decorator in node.decorator_list}
    if decorators.intersection(_PROPERTIES):
        return "property", None
    if decorators.intersection(_ABSTRACT):
        return "abstract or overload", None
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    if all(map(_is_stub, body)):
        return "stub body", None
    first = _start(source, node, body[0])
    last = node.end_lineno
    if first is None or last is None or not _whole_lines(source, first, last, node):
        return "shares a line with its head", None
    length = sum(bool(line.strip()) and not line.strip().startswith("#") for line in source.lines[first - 1 : last])
    if not min_lines <= length <= max_lines:
        return "too short" if length < min_lines else "too long", None
    head = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return "", Function(source, node, name, head, first, last)


def _start(source: Source, node: FunctionNode, statement: ast.stmt) -> int | None:
    """The first line of the body, comments above its first statement included; None where that is the head's line."""
    line = first_line(statement)
    if node.body[0] is not statement:
        floor = node.body[0].end_lineno or line
    else:
        heads = [part for part in ast.walk(node.args) if isinstance(part, ast.expr | ast.arg)]
        heads += [node.returns] if node.returns else []
        floor = max([node.lineno, *(part.end_lineno or 0 for part in heads)])
    if line <= floor or source.lines[line - 1][: statement.col_offset].strip():
        return None
    while line - 1 > floor and source.lines[line - 2].strip().startswith("#"):
        line -= 1
    return line


def _whole_lines(source: Source, first: int, last: int, node: FunctionNode) -> bool:
    # Behind the last statement only a comment may stand.
    rest = source.lines[last - 1].encode()[node.end_col_offset or 0 :].decode().strip()
    return first <= last and (not rest or rest.startswith("#"))


def first_line(statement: ast.stmt) -> int:
    """The line where a statement begins, with its decorators."""
    return min([statement.lineno, *(place.lineno for place in getattr(statement, "decorator_list", []))])


def _is_stub(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Pass):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return True
    if isinstance(statement, ast.Raise) and statement.exc is not None:
        raised = statement.exc.func if isinstance(statement.exc, ast.Call) else statement.exc
        return _last_name(raised) == "NotImplementedError"
    return False


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
