"""`extends:` — a YAML on top of others — and the rule by which one tree is laid over another."""

import os
from functools import reduce
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codelm.config import interpolate  # noqa: F401  registers the resolvers
from codelm.config.fields import Section
from codelm.config.shape import discriminated
from codelm.config.source import read_yaml
from codelm.config.tree import KeyPath, Node, Place, Problem
from codelm.errors import ConfigError

MAX_FILES = 50
WHOLE = ("mixture", "streams")
"""The keys of sections that speak of languages: those that a child does not name are not inherited."""


def load_chain(paths: list[str], schema: type[Section], problems: list[Problem]) -> Node:
    """The trees of files, each with everything that it extends below it, the later laid over the earlier.

    Raises:
        ConfigError: a file is absent, unreadable, not YAML, or extends itself.
    """
    seen = [0]
    trees = [_load(Path(path), path, schema, problems, (), seen) for path in paths]
    return reduce(lambda base, over: merge(base, over, schema), trees)


def _load(
    path: Path, name: str, schema: type[Section], problems: list[Problem], above: tuple[Path, ...], seen: list[int]
) -> Node:
    seen[0] += 1
    if seen[0] > MAX_FILES:
        raise ConfigError(f"{name}: more than {MAX_FILES} files extend one another")
    child = read_yaml(path, name, seen[0] - 1, problems)
    entries = dict(child.entries or {})
    extends = entries.pop("extends", None)
    child = Node(entries, child.place)
    if extends is None:
        return child
    here = (*above, path.resolve())
    base: Node | None = None
    for parent, place in _parents(extends):
        target = path.parent / parent
        display = os.path.normpath(Path(name).parent / parent)
        if target.resolve() in here:
            raise ConfigError(f"{place}: extends: `{parent}` extends this file in turn; a circle has no beginning")
        if not target.exists() or target.is_dir():
            try:
                read_yaml(target, display, 0, [])
            except ConfigError as error:
                raise ConfigError(f"{place}: extends: {error}") from None
        tree = _load(target, display, schema, problems, here, seen)
        base = tree if base is None else merge(base, tree, schema)
    return child if base is None else merge(base, child, schema)


def _parents(extends: Node) -> list[tuple[str, Place]]:
    items = extends.value if isinstance(extends.value, list) else [extends]
    parents = []
    for item in items:
        if not isinstance(item.value, str) or not item.value:
            raise ConfigError(f"{item.place}: extends: must be the path of a YAML file, or a list of such paths")
        try:
            parent = str(OmegaConf.create({"extends": item.value})["extends"])
        except OmegaConfBaseException as error:
            raise ConfigError(f"{item.place}: extends: {str(error).splitlines()[0]}") from None
        parents.append((parent, item.place))
    return parents


def merge(base: Node, over: Node, schema: type[Section], path: KeyPath = ()) -> Node:
    """`over` laid over `base`: sections key by key, everything else replaced.

    Replaced whole are WHOLE, and a section whose `name` changes (its other keys belong to the old name).
    """
    if base.entries is None or over.entries is None or (path and path[-1] in WHOLE):
        return over
    if _renamed(base, over, schema, path):
        old = base.entries["name"]
        return Node(over.value, over.place, f"nothing carries over from the section for `{old.value}` ({old.place})")
    entries = dict(base.entries)
    for key, child in over.entries.items():
        entries[key] = merge(entries[key], child, schema, (*path, key)) if key in entries else child
    return Node(entries, over.place, over.note or base.note)


def _renamed(base: Node, over: Node, schema: type[Section], path: KeyPath) -> bool:
    if base.entries is None or over.entries is None or not {"name"} <= base.entries.keys() & over.entries.keys():
        return False
    return base.entries["name"].value != over.entries["name"].value and discriminated(schema, path)
