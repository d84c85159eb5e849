"""`key=value` arguments of the command line, laid over the YAML's tree."""

from collections.abc import Sequence

from codelm.config.fields import Section
from codelm.config.inherit import WHOLE, merge
from codelm.config.shape import discriminated, field_at, shape
from codelm.config.source import parse_value
from codelm.config.tree import COMMAND_LINE, Node, Place, Problem, dotted, find, plain


def is_file(argument: str) -> bool:
    """Whether an argument names a YAML file to be laid over the first."""
    return "=" not in argument and argument.endswith((".yaml", ".yml"))


def apply_overrides(root: Node, arguments: list[str], schema: type[Section], problems: list[Problem]) -> Node:
    """The tree with every argument applied in order (a section's `name` first, since it may replace the section)."""
    parsed = []
    for index, argument in enumerate(arguments):
        place = Place(f"command line `{argument}`", (COMMAND_LINE, index, 0))
        found = _parse(argument, place, problems)
        if found is not None:
            parsed.append((*found, place))
    parsed.sort(key=lambda entry: not (entry[0][-1] == "name" and discriminated(schema, entry[0][:-1])))
    for path, node, place in parsed:
        fault = _fault(root, path, node, schema)
        if fault is not None:
            problems.append(Problem(place, dotted(path), fault))
            continue
        over = node
        for depth in range(len(path), 0, -1):
            above = find(root, path[: depth - 1])
            over = Node({path[depth - 1]: over}, above.place if above is not None else place)
        root = _lay(root, over, path, schema)
    return root


def _lay(root: Node, over: Node, path: tuple[str, ...], schema: type[Section]) -> Node:
    """`merge`, except that `a.mixture.python=1` changes one share and leaves the others (as of all that is WHOLE)."""
    inside = any(key in WHOLE for key in path[:-1])
    return _with_entry(root, path, over) if inside else merge(root, over, schema)


def _with_entry(base: Node, path: Sequence[str], over: Node) -> Node:
    entries = dict(base.entries or {})
    key, *rest = path
    inner = (over.entries or {})[key]
    entries[key] = _with_entry(entries[key], rest, inner) if rest and key in entries else inner
    return Node(entries, base.place, base.note)


def _parse(argument: str, place: Place, problems: list[Problem]) -> tuple[tuple[str, ...], Node] | None:
    key, equals, text = argument.partition("=")
    fault = None
    if key.startswith("~"):
        fault = f"a key cannot be deleted; write {key[1:]}=null where null is allowed"
    elif not equals:
        fault = "is not `key=value`, such as optimizer.lr=1e-4 (no spaces around the =)"
    elif key.startswith("+"):
        fault = f"no plus sign is needed; write {key.lstrip('+')}={text}"
    elif not key.strip():
        fault = "has no key before the =; write key=value, without spaces around the ="
    elif not text.strip():
        fault = f"has no value; write {key}=null for none, and no space after the ="
    elif "[" in key or any(part.isdigit() for part in key.split(".")):
        fault = "a list is given whole, such as optimizer.betas=[0.9,0.95]"
    elif any(not part.strip() for part in key.split(".")):
        fault = f"`{key}` has an empty part; write the keys with single dots between them"
    elif key == "extends" or key.startswith("extends."):
        fault = "`extends` is read from YAML files only"
    if fault is not None:
        problems.append(Problem(place, "", fault))
        return None
    path = tuple(part.strip() for part in key.split("."))
    node = parse_value(text, place, path, problems)
    return None if node is None else (path, node)


def _fault(root: Node, path: tuple[str, ...], node: Node, schema: type[Section]) -> str | None:
    values = plain(root)
    current: Node | None = root
    for depth, part in enumerate(path[:-1], start=1):
        current = current.entries.get(part) if current is not None and current.entries is not None else None
        above = path[:depth]
        if part == "mixture" and (current is None or current.entries is None):
            value = plain(node) if node.entries is None else "…"
            given = f"is `{current.value}`" if current is not None else "is not given"
            whole = f"{dotted(above)}={{{path[-1]}: {value}}}"
            return f"{dotted(above)} {given}, so it has no entry to change; give it whole: {whole}"
        field = field_at(schema, above, values)
        known = shape(field.annotation) if field is not None else None
        if known is not None and not known.models and known.entry is None:
            return f"{dotted(above)} is not a section, so it has no key `{path[depth]}`"
    return None
