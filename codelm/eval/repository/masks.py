"""What of a function is masked: its whole body, a block in it, a single statement; and which tests judge that."""

import ast
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from codelm.eval.repository.candidates import Function, first_line

KINDS = ("body", "block", "statement")
_SIMPLE = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr, ast.Raise, ast.Delete, ast.Assert)
_MIN_BLOCK = 2


@dataclass(frozen=True, eq=False)
class Mask:
    """Lines `first` to `last` of a function; `tests` run them."""

    function: Function
    kind: str
    first: int
    last: int
    tests: tuple[str, ...]

    @property
    def id(self) -> str:
        """Path, name, kind and, inside a body, the line within the function."""
        place = "" if self.kind == "body" else f"@{self.first - self.function.head + 1}"
        return f"{self.function.id}:{self.kind}{place}"

    @property
    def text(self) -> str:
        """What is masked: whole lines with their ends."""
        return self.function.source.between(self.first, self.last)

    @property
    def indentation(self) -> str:
        """Of its first line with code."""
        for line in self.text.split("\n"):
            if line.strip() and not line.strip().startswith("#"):
                return line[: len(line) - len(line.lstrip())]
        return ""


def find_masks(
    function: Function,
    covered: Mapping[int, set[str]],
    seconds: Mapping[str, float],
    blocks: int,
    statements: int,
    most_tests: int,
    seed: int,
) -> Iterator[Mask]:
    """The masks of a function: its body, and so many blocks and statements, drawn by a hash of their places."""
    spans = [("body", [(function.first, function.last)])]
    spans.append(("block", _drawn(function, "block", _blocks(function, covered), blocks, seed)))
    spans.append(("statement", _drawn(function, "statement", _statements(function, covered), statements, seed)))
    for kind, places in spans:
        for first, last in places:
            lines = {line: covered[line] for line in range(first, last + 1) if line in covered}
            if lines:
                yield Mask(function, kind, first, last, choose_tests(lines, seconds, most_tests))


def choose_tests(lines: Mapping[int, set[str]], seconds: Mapping[str, float], most: int) -> tuple[str, ...]:
    """The tests that run some lines; of too many, first the quickest that run lines which the chosen ones do not."""
    left = {test: set() for tests in lines.values() for test in tests}
    for line, tests in lines.items():
        for test in tests:
            left[test].add(line)
    if len(left) <= most:
        return tuple(sorted(left))
    chosen: list[str] = []
    missing = set(lines)
    while len(chosen) < most:
        best = max(left, key=lambda test: (len(left[test] & missing), -seconds.get(test, 0.0), test))
        missing -= left.pop(best)
        chosen.append(best)
    return tuple(sorted(chosen))


def _drawn(function: Function, kind: str, spans: list[tuple[int, int]], count: int, seed: int) -> list[tuple[int, int]]:
    def rank(span: tuple[int, int]) -> bytes:
        return hashlib.sha256(f"{seed} {function.id} {kind} {span[0] - function.head}".encode()).digest()

    return sorted(sorted(spans, key=rank)[:count])


def _blocks(function: Function, covered: Mapping[int, set[str]]) -> list[tuple[int, int]]:
    spans = []
    for node in ast.walk(function.node):
        if node is function.node or isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
        ):
            continue
        for name in ("body", "orelse", "finalbody"):
            suite = getattr(node, name, None)
            if isinstance(suite, list) and suite and _stands_alone(function, suite[0], suite[-1]):
                first, last = first_line(suite[0]), suite[-1].end_lineno
                if last - first + 1 >= _MIN_BLOCK and first in covered and not _is_elif(function, name, suite):
                    spans.append((first, last))
    return [span for span in dict.fromkeys(spans) if span != (function.first, function.last)]


def _statements(function: Function, covered: Mapping[int, set[str]]) -> list[tuple[int, int]]:
    spans = []
    for node in ast.walk(function.node):
        if not isinstance(node, _SIMPLE) or node.lineno not in covered or not _stands_alone(function, node, node):
            continue
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Return) and node.value is None:
            continue
        spans.append((node.lineno, node.end_lineno))
    return [span for span in dict.fromkeys(spans) if span != (function.first, function.last)]


def _is_elif(function: Function, name: str, suite: list[ast.stmt]) -> bool:
    line = function.source.lines[suite[0].lineno - 1].lstrip()
    return name == "orelse" and isinstance(suite[0], ast.If) and line.startswith("elif")


def _stands_alone(function: Function, first: ast.stmt, last: ast.stmt) -> bool:
    """Whether nothing else stands on the lines of some statements."""
    lines = function.source.lines
    before = lines[first_line(first) - 1].encode()[: first.col_offset]
    behind = lines[(last.end_lineno or 0) - 1].encode()[last.end_col_offset or 0 :].strip()
    inside = function.first <= first_line(first) and (last.end_lineno or 0) <= function.last
    return inside and not before.strip() and (not behind or behind.startswith(b"#"))
