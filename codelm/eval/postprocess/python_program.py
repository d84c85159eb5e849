"""The default: of a completion, the part that the benchmark's function needs; a correct program stays correct.

Python is read by its grammar:

1. The body of the prompt's function ends before the first line at the left margin, blank lines and comments apart,
   before which the text is complete Python (a line inside a string or bracket is not at the margin in this sense).
2. What follows is read as far as it parses; prose, a code fence or a torn last statement end the reading.
3. Of its statements those are kept that give a name a meaning which the body, or a kept statement, uses: definitions
   (with their decorators), imports, assignments, also when they stand inside `if`, `for`, `with` or `try`, and calls
   of a method on such a name, as `cache.update(…)`, or of `sys.setrecursionlimit`. Asserts, prints, docstrings,
   `if __name__ == …` and other functions go. A new definition of the prompt's own function is kept, since Python
   would take it, unless the completion was cut off in the middle of it.
4. Where the body does not parse at all, a marker such as `<|endoftext|>` or a code fence inside it ends it.

Where the prompt is a description alone, its "body" is empty, and all of the program is what rule 3 keeps.
"""

import ast
import builtins
import re
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_MARKERS = ("<|endoftext|>", "</s>", "<|im_end|>", "<|end|>", "<|file_separator|>", "<file_sep>", "```")
_MOST_BOUNDARIES = 400
_FEW_BOUNDARIES = 40
_MOST_CHARACTERS = 1 << 18
"""No solution is longer; the parser would take minutes and gigabytes for what a model may write instead."""
_INTERPRETER_SETTINGS = ("setrecursionlimit", "set_int_max_str_digits", "stack_size")
_BUILTINS = frozenset(dir(builtins))


def cut_python_function(prompt: str, completion: str, entry_point: str, ended: bool = True) -> str:
    """The part of a completion that the prompt's function needs (see the module's text).

    Args:
        ended: whether the completion came to an end of itself.
    """
    completion = completion[:_MOST_CHARACTERS]
    text = prompt + completion
    end = _body_end(text, len(prompt))
    if end is None:
        end = _marker(text, len(prompt))
    body, rest = text[:end], text[end:]
    tree = parse(body)
    if tree is None or not rest.strip():
        return body[len(prompt) :]
    statements, rest_complete = _statements(rest)
    if statements and not ended and rest_complete and _defines(statements[-1].node, entry_point):
        statements.pop()
    kept = _needed(body, statements, entry_point)
    parts = [statement.source for statement, keep in zip(statements, kept, strict=True) if keep]
    return "\n".join([body[len(prompt) :], *parts]) if parts else body[len(prompt) :]


def python_function_finished(prompt: str, completion: str, entry_point: str) -> bool:
    """Whether the function is whole, a line of something else follows it, and no name is left without a meaning.

    That line is whole, so that rules that look for the beginning of a line find all of it.
    """
    text = prompt + completion
    end = _body_end(text, len(prompt), _FEW_BOUNDARIES)  # asked often, and a body that is broken stays so
    if end is None or "\n" not in text[end:].lstrip("\n"):
        return False
    tree = parse(text[:end])
    if tree is None:
        return True
    statements, whole = _statements(text[end:])
    if whole and statements:
        statements.pop()  # it may go on
    kept = [s for s, keep in zip(statements, _needed(text[:end], statements, entry_point), strict=True) if keep]
    nodes = [*tree.body, *(statement.node for statement in statements)]
    used = used_names(text[:end]).union(*(used_names(statement.source) for statement in kept))
    given = set().union(*(_binds(node) for node in nodes))
    return not (used - given - _BUILTINS) and not _is_stub(nodes, entry_point)


@dataclass(frozen=True)
class _Statement:
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


def _body_end(text: str, start: int, most: int = _MOST_BOUNDARIES) -> int | None:
    """Where the function's body ends; None when the text is nowhere complete Python."""
    for position in _margin_lines(text, start, most):
        if parse(text[:position]) is not None:
            return position
    return len(text) if parse(text) is not None else None


def _marker(text: str, start: int) -> int:
    places = [place for marker in _MARKERS if (place := text.find(marker, start)) >= 0]
    return min(places, default=next(_margin_lines(text, start), len(text)))


def _statements(rest: str) -> tuple[list[_Statement], bool]:
    """The statements of the longest part, up to a line at the margin, that parses; and whether that is all of it."""
    tree = parse(rest)
    if tree is not None:
        return _split(rest, tree), True
    for position in reversed(list(_margin_lines(rest, 0))):
        tree = parse(rest[:position])
        if tree is not None:
            return _split(rest[:position], tree), False
    return [], False


def _split(source: str, tree: ast.Module) -> list[_Statement]:
    lines = source.splitlines(keepends=True)
    statements = []
    for node in tree.body:
        first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", []))])
        statements.append(_Statement(node, "".join(lines[first - 1 : node.end_lineno])))
    return statements


def parse(source: str) -> ast.Module | None:
    """The syntax tree; None where there is none, whatever the text does to the parser."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _needed(body: str, statements: list[_Statement], entry_point: str) -> list[bool]:
    needed = used_names(body) | {entry_point}
    kept = [False] * len(statements)
    changed = True
    while changed:
        changed = False
        for place, statement in enumerate(statements):
            if not kept[place] and _gives_meaning_to(statement.node, needed):
                kept[place] = changed = True
                needed |= used_names(statement.source)
    return kept


def _gives_meaning_to(statement: ast.stmt, names: set[str]) -> bool:
    if isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    ):
        return False
    if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
        return bool(names - _BUILTINS)
    calls = (node.value for node in _own_nodes(statement) if isinstance(node, ast.Expr))
    return bool(_binds(statement) & names) or any(_acts_on(call, names) for call in calls)


def _acts_on(value: ast.expr, names: set[str]) -> bool:
    """Whether an expression calls a method of something named, as `cache.update(…)`, or changes the interpreter."""
    if not isinstance(value, ast.Call) or not isinstance(value.func, ast.Attribute):
        return False
    if value.func.attr in _INTERPRETER_SETTINGS:
        return True
    base: ast.expr = value.func
    while isinstance(base, ast.Attribute | ast.Subscript):
        base = base.value
    return isinstance(base, ast.Name) and base.id in names


def _defines(statement: ast.stmt, name: str) -> bool:
    return isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef) and statement.name == name


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is in it, but for the insides of functions and classes."""
    yield node
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _own_nodes(child)


def _binds(statement: ast.stmt) -> set[str]:
    """The names that a statement at the margin gives a meaning, or changes the meaning of."""
    names: set[str] = set()
    for node in _own_nodes(statement):
        names |= _names_bound_by(node)
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            base: ast.expr = node
            while isinstance(base, ast.Attribute | ast.Subscript):
                base = base.value
            if isinstance(base, ast.Name):
                names.add(base.id)
    return names


def _names_bound_by(node: ast.AST) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        return {node.id}
    if isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        return {node.name}
    if isinstance(node, ast.MatchMapping) and node.rest:
        return {node.rest}
    return set()


def used_names(source: str) -> set[str]:
    """The names that a source takes from the module: those it reads at the margin, and the globals of its functions."""
    try:
        tables = [symtable.symtable(source, "solution.py", "exec")]
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    while tables:
        table = tables.pop()
        at_margin = table.get_type() == "module"
        names |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (at_margin or s.is_global())}
        tables += table.get_children()
    return names


def _is_stub(nodes: Sequence[ast.stmt], entry_point: str) -> bool:
    """Whether the function is still to be written: nothing but a docstring, `pass`, `...` or NotImplementedError."""
    functions = [node for node in nodes if _defines(node, entry_point)]
    if not functions:
        return True
    body = functions[-1].body  # pyright: ignore[reportAttributeAccessIssue]
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node))
        for node in body
    )
