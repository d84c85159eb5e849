"""Which names a Python statement uses, and which it gives a meaning or changes: by its syntax, nothing is run."""

import ast
import builtins
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

BUILTINS = frozenset(dir(builtins))
_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef
_NO_VALUES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom
_INTERPRETER_SETTINGS = ("setrecursionlimit", "set_int_max_str_digits", "stack_size")
_BUILTIN_SETTERS = ("setattr", "delattr")


def parse(source: str) -> ast.Module | None:
    """The syntax tree; None where there is none, whatever the text does to the parser."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def used_names(source: str) -> set[str]:
    """The names that a source takes from the module: those it reads at the margin, and the globals of its functions."""
    return {name for name, at_margin, s in _symbols(source) if s.is_referenced() and (at_margin or s.is_global())}


def globals_set(source: str) -> set[str]:
    """The names of the module that a source's functions declare `global` and assign."""
    return {name for name, _, s in _symbols(source) if s.is_declared_global() and s.is_assigned()}


def _symbols(source: str) -> Iterator[tuple[str, bool, symtable.Symbol]]:
    """Names, whether they stand at the margin, and what the interpreter knows of them."""
    try:
        tables = [symtable.symtable(source, "solution.py", "exec")]
    except (SyntaxError, ValueError, RecursionError):
        return
    while tables:
        table = tables.pop()
        yield from ((symbol.get_name(), table.get_type() == "module", symbol) for symbol in table.get_symbols())
        tables += table.get_children()


def bound_names(statement: ast.stmt) -> set[str]:
    """The names that a statement at the margin gives a meaning, or changes the meaning of."""
    names: set[str] = set()
    for node in _own_nodes(statement):
        names |= _names_bound_by(node)
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            names |= _base(node)
    return names


def defines(statement: ast.stmt, name: str) -> bool:
    """Whether a statement is the definition of a function of this name."""
    return isinstance(statement, _DEFINITIONS) and statement.name == name


@dataclass
class _Effects:
    """What calling a function changes: things of the module, by name, and whether also what it is given."""

    names: set[str] = field(default_factory=set)
    arguments: bool = False


@dataclass(frozen=True)
class Names:
    """What the names of a program mean at its margin.

    Attributes:
        values: those of data, which calls can change; not of functions, classes and modules.
    """

    bound: set[str]
    values: set[str]
    effects: dict[str, _Effects]

    def gives_meaning_to(self, statement: ast.stmt, names: set[str]) -> bool:
        """Whether a statement at the margin binds one of the names, changes what it stands for, or may do so."""
        if is_main_guard(statement):
            return False
        if isinstance(statement, ast.ImportFrom) and any(alias.name == "*" for alias in statement.names):
            return bool(names - BUILTINS)
        return bool(bound_names(statement) & names) or any(self._acts_on(call, names) for call in _calls(statement))

    def may_act(self, statement: ast.stmt, names: set[str]) -> bool:
        """Whether a statement defines a function that would change one of the names' values, if it were called."""
        effects = self.effects.get(statement.name) if isinstance(statement, _DEFINITIONS) else None
        return effects is not None and bool(effects.names & names or (effects.arguments and self.values & names))

    def _acts_on(self, call: ast.Call, names: set[str]) -> bool:
        """Whether a call whose answer nobody wants changes what a name stands for, or the interpreter."""
        given = _arguments(call)
        if isinstance(call.func, ast.Attribute):
            if call.func.attr in _INTERPRETER_SETTINGS:
                return True
            return bool(_base(call.func) & names or given & names & self.values)
        if not isinstance(call.func, ast.Name):
            return False
        called = call.func.id
        if called in self.effects:
            effects = self.effects[called]
            return bool(effects.names & names or (effects.arguments and given & names))
        if called in self.bound:  # of another module: whatever it is given, it may change
            return bool(given & names & self.values)
        return called in _BUILTIN_SETTERS and bool(given & names)


def names_of(statements: Iterable[ast.stmt]) -> Names:
    """The meaning of the names in a program of these statements."""
    nodes = list(statements)
    functions = {n.name: n for node in nodes for n in _own_nodes(node) if isinstance(n, _DEFINITIONS)}
    values = set().union(*(bound_names(node) for node in nodes if not isinstance(node, _NO_VALUES)))
    bound = set().union(*(bound_names(node) for node in nodes))
    effects = {name: _Effects() for name in functions}
    changed = True
    while changed:  # functions call each other
        before = {name: (set(found.names), found.arguments) for name, found in effects.items()}
        for name, function in functions.items():
            effects[name] = _effects(function, effects)
        changed = before != {name: (found.names, found.arguments) for name, found in effects.items()}
    return Names(bound, values, effects)


def _effects(function: ast.FunctionDef | ast.AsyncFunctionDef, others: dict[str, _Effects]) -> _Effects:
    """What a function changes, so far as it is known what others do."""
    nodes = list(ast.walk(function))
    declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    stored = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del)}
    parameters = {node.arg for node in nodes if isinstance(node, ast.arg)}
    changed: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            changed |= _base(node)
        elif isinstance(node, ast.Expr):
            for call in _called_by(node.value):
                changed |= _changed_by(call, others)
    local = (stored | parameters) - declared
    return _Effects((changed - local) | (stored & declared), bool(changed & parameters))


def _changed_by(call: ast.Call, others: dict[str, _Effects]) -> set[str]:
    given = _arguments(call)
    if isinstance(call.func, ast.Attribute):
        return _base(call.func) | given
    effects = others.get(call.func.id) if isinstance(call.func, ast.Name) else None
    return set() if effects is None else effects.names | (given if effects.arguments else set())


def is_main_guard(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == …`."""
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )


def gives_values(statement: ast.stmt) -> bool:
    """Whether it is neither a definition nor an import: what it gives, later statements may change."""
    return not isinstance(statement, _NO_VALUES)


def _calls(statement: ast.stmt) -> Iterator[ast.Call]:
    """The calls of a statement whose answers nobody wants."""
    for node in _own_nodes(statement):
        if isinstance(node, ast.Expr):
            yield from _called_by(node.value)


def _called_by(value: ast.expr) -> Iterator[ast.Call]:
    if isinstance(value, ast.Await):
        value = value.value
    if isinstance(value, ast.ListComp | ast.SetComp):
        value = value.elt
    if isinstance(value, ast.Call):
        yield value


def _arguments(call: ast.Call) -> set[str]:
    """What a call is given by name."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return set().union(*(_base(node.value if isinstance(node, ast.Starred) else node) for node in given))


def _base(node: ast.expr) -> set[str]:
    """The name that an expression such as `cache.of[x]` begins with."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """The node and what is in it, but for the insides of functions and classes."""
    nodes = [node]  # a sum of thousands is deeper than calls may be
    while nodes:
        node = nodes.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)


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
