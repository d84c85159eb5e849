"""A program as EvalPlus's sanitizer would leave it, with what that breaks: for comparing with scores of its kind.

The longest run of lines that parses; of it the imports, and the classes, functions that hold a `return`, and plain
assignments that the entry point needs, each name's first definition only. Decorated and generator functions, `try`,
loops and other statements at the margin go, which loses correct programs. Written from its observed behaviour.
"""

import ast

from codelm.eval.postprocess.python_names import parse, used_names
from codelm.eval.postprocess.stop_words import cut_before

_MOST_LINES = 400
_ENDS = ("<|endoftext|>", "<|endofmask|>", "</s>")


def sanitize(text: str, entry_point: str) -> str:
    """The whole program that is left of a text; empty when nothing of it parses."""
    source = _longest_parsing(cut_before(text, _ENDS).replace("\t", "    "))
    tree = parse(source)
    if tree is None:
        return ""
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    definitions: dict[str, ast.stmt] = {}
    for node in tree.body:
        name = _defined(node)
        if name is not None:
            definitions.setdefault(name, node)
    wanted = _reachable(definitions, entry_point) if entry_point else set(definitions)
    kept = [*imports, *(node for name, node in definitions.items() if name in wanted)]
    return "".join(f"{ast.get_source_segment(source, node)}\n" for node in kept)


def _longest_parsing(text: str) -> str:
    """The run of lines with the most non-blank ones that is Python; of a very long text, of its beginning."""
    lines = text.split("\n")[:_MOST_LINES]
    if parse("\n".join(lines)) is not None:
        return "\n".join(lines)
    weight = [0]
    for line in lines:
        weight.append(weight[-1] + bool(line.strip()))
    best, best_weight = "", 0
    for first in range(len(lines)):
        for last in range(len(lines), first, -1):
            if weight[last] - weight[first] <= best_weight:
                break
            if parse("\n".join(lines[first:last])) is not None:
                best, best_weight = "\n".join(lines[first:last]), weight[last] - weight[first]
                break
    return best


def _defined(node: ast.stmt) -> str | None:
    if isinstance(node, ast.ClassDef) and not node.decorator_list:
        return node.name
    if isinstance(node, ast.FunctionDef) and not node.decorator_list:
        return node.name if any(isinstance(inner, ast.Return) for inner in ast.walk(node)) else None
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _reachable(definitions: dict[str, ast.stmt], entry_point: str) -> set[str]:
    found, waiting = set(), [entry_point]
    while waiting:
        name = waiting.pop()
        if name in definitions and name not in found:
            found.add(name)
            waiting += used_names(ast.unparse(definitions[name]))
    return found
