"""Where generation may stop: once more text cannot change what `python_program` keeps of it."""

import ast
import codeop
import re
from collections.abc import Sequence

from codelm.eval.postprocess.python_names import (
    BUILTINS,
    Names,
    bound_names,
    defines,
    gives_values,
    globals_set,
    names_of,
    parse,
)
from codelm.eval.postprocess.python_program import Statement, body_end, choose, statements_of

_FEW_BOUNDARIES = 40
_MOST_DEFINITIONS = 2
"""A model that repeats itself defines the same function for ever."""
_SIMPLE = ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Import | ast.ImportFrom | ast.Assert | ast.Delete
_DEFINITION = re.compile(r"^(?:async\s+)?(?:def|class)\s+(\w+).*\n", re.MULTILINE)
_MAIN_GUARD = re.compile(r"if\s*\(?\s*__name__")
_GOES_ON = re.compile(r"(?:else|elif|except|finally)\b")


def python_function_finished(prompt: str, completion: str, entry_point: str) -> bool:
    """Whether more text cannot change what `cut_python_function` keeps.

    The function is whole, no name is left without a meaning, and what stands behind is either the beginning of
    something that is not needed, or nothing that Python could read. Behind data at the margin stands a whole statement,
    too, that does not fill them. (A third definition of a name is not waited for, nor what stands behind others.)
    """
    text = prompt + completion
    end = body_end(text, len(prompt), _FEW_BOUNDARIES)  # asked often, and a body that is broken stays so
    if end is None or "\n" not in text[end:].lstrip("\n"):
        return False
    tree = parse(text[:end])
    if tree is None:
        return True
    statements, unread = statements_of(text[end:])
    if _is_broken(unread):
        return True  # nothing behind it is read
    if not unread and not statements:
        return False
    last = unread or statements[-1].source + text[end:][len(text[end:].rstrip("\n")) :]
    if not unread and not (isinstance(statements[-1].node, _SIMPLE) and last.endswith("\n")):
        statements.pop()  # it may go on
    nodes = [*tree.body, *(statement.node for statement in statements)]
    names = names_of(nodes)
    kept, needed = choose(text[:end], entry_point, names, statements)
    chosen = [statement for statement, keep in zip(statements, kept, strict=True) if keep]
    given = names.bound | globals_set(text[:end]).union(*(globals_set(statement.source) for statement in chosen))
    if needed - given - BUILTINS or _is_stub(nodes, entry_point):
        return False
    if _MAIN_GUARD.match(last):
        return True
    return _are_filled(statements, kept, names, needed) and not _may_matter(last, nodes, names, needed)


def _are_filled(statements: Sequence[Statement], kept: Sequence[bool], names: Names, needed: set[str]) -> bool:
    """Whether behind the last data that are kept stands a statement of something else."""
    for statement, keep in reversed(list(zip(statements, kept, strict=True))):
        if not keep and not names.may_act(statement.node, needed):
            return True
        if keep and gives_values(statement.node):
            return False
    return True


def _may_matter(last: str, nodes: Sequence[ast.stmt], names: Names, needed: set[str]) -> bool:
    """Whether the beginning of a statement may become one that is kept, or hands the function on by another name."""
    defined = (_DEFINITION.search if last.startswith("@") else _DEFINITION.match)(last)
    if defined:
        times = sum(defined[1] in bound_names(node) and not gives_values(node) for node in nodes)
        return defined[1] in needed and times < _MOST_DEFINITIONS
    if last.startswith("@") or "\n" not in last:
        return True
    tree = parse(last)
    statement = tree.body[0] if tree is not None and tree.body else None
    if not isinstance(statement, _SIMPLE):  # torn, or a loop that may go on
        return bool(needed & names.values) or re.split(r"\W", last, maxsplit=1)[0] in needed
    if isinstance(statement, ast.Assign | ast.AnnAssign) and needed & set(names.effects) & _handed(statement):
        return True
    return names.gives_meaning_to(statement, needed)


def _handed(statement: ast.stmt) -> set[str]:
    """The names that a statement reads, but for those of functions that it only calls."""
    called = {id(node.func) for node in ast.walk(statement) if isinstance(node, ast.Call)}
    return {node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and id(node) not in called}


def _is_broken(unread: str) -> bool:
    """Whether a text that is no Python stays so, whatever follows it."""
    lines = unread[: unread.rfind("\n") + 1]
    if not lines.strip() or _GOES_ON.match(lines):
        return False
    try:
        codeop.compile_command(lines, symbol="exec")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return True
    return False


def _is_stub(nodes: Sequence[ast.stmt], entry_point: str) -> bool:
    """Whether the function is still to be written: nothing but a docstring, `pass`, `...` or NotImplementedError."""
    functions = [node for node in nodes if defines(node, entry_point)]
    if not functions:
        return True
    body = functions[-1].body  # pyright: ignore[reportAttributeAccessIssue]
    return all(
        isinstance(node, ast.Pass)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        or (isinstance(node, ast.Raise) and "NotImplementedError" in ast.dump(node))
        for node in body
    )
