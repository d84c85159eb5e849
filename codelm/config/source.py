"""YAML text → a tree of values in which every key knows the file, line and column it stands at.

OmegaConf keeps no positions, so the nodes are PyYAML's; scalars mean what OmegaConf reads (`1e-4` is a float).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from codelm.config.suggest import closest
from codelm.config.tree import KeyPath, Node, Place, Problem, dotted
from codelm.errors import ConfigError

MAX_BYTES = 1_000_000
MAX_NODES = 20_000


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader with OmegaConf's scalars: `1e-4` is a float, dates stay text."""


_FLOAT = re.compile(
    r"""^(?:[-+]?[0-9]+(?:_[0-9]+)*\.[0-9_]*(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)
        |[-+]?\.[0-9]+(?:_[0-9]+)*(?:[eE][-+]?[0-9]+)?
        |[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)
# To base 8, and hours and minutes to base 60: nobody means them.
_OLD_NUMBER = re.compile(r"[-+]?(0[0-7_]|[0-9_]+:)")
_FLOAT_TAG = "tag:yaml.org,2002:float"
_DROPPED = ("tag:yaml.org,2002:timestamp", _FLOAT_TAG)


def omegaconf_scalars(resolvers: dict[str, list]) -> dict[str, list]:
    """PyYAML's table of implicit resolvers with OmegaConf's notion of floats, without timestamps."""
    table = {first: [pair for pair in pairs if pair[0] not in _DROPPED] for first, pairs in resolvers.items()}
    for first in "-+0123456789.":
        table[first] = [(_FLOAT_TAG, _FLOAT), *table.get(first, [])]
    return table


Loader.yaml_implicit_resolvers = omegaconf_scalars(yaml.SafeLoader.yaml_implicit_resolvers)


@dataclass
class Reading:
    """One YAML text being turned into nodes: where it comes from, and the problems found so far."""

    name: str
    file_rank: int
    problems: list[Problem]
    fixed: Place | None = None
    count: int = 0

    def place(self, mark: "yaml.Mark | None") -> Place:
        """The place of a PyYAML mark; for a value of the command line always the argument."""
        if self.fixed is not None:
            return self.fixed
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        return Place(f"{self.name}:{line}:{column}", (self.file_rank, line, column))

    def complain(self, mark: "yaml.Mark | None", key: str, text: str) -> None:
        self.problems.append(Problem(self.place(mark), key, text))


def read_yaml(path: Path, name: str, file_rank: int, problems: list[Problem]) -> Node:
    """The tree of a file; `name` is how messages call it.

    Raises:
        ConfigError: when the file cannot be read as one YAML mapping; milder faults go to `problems`.
    """
    text = _text(path, name)
    reading = Reading(name, file_rank, problems)
    root = compose(text, reading)
    if root is None:
        raise ConfigError(f"{name}: the file is empty (or all comments); see yamls/quickstart/ for whole examples")
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a text or number"
        raise ConfigError(
            f"{reading.place(root.start_mark)}: the file holds {kind}, not keys; write `key: value` lines (with a"
            " space after the colon)"
        )
    return Node(_build(root, reading, (), ()).value, Place(f"{name}:1:1", (file_rank, 1, 1)))


def parse_value(text: str, place: Place, path: KeyPath, problems: list[Problem]) -> Node | None:
    """The value of a command-line argument, read as YAML; None after a problem."""
    reading = Reading("", 0, problems, fixed=place)
    try:
        root = compose(text, reading)
        return Node(None, place) if root is None else _build(root, reading, path, ())
    except _SyntaxFault as fault:
        text = f"the value is not valid YAML: {fault.text.removeprefix('not valid YAML: ')}"
        problems.append(Problem(place, dotted(path), text))
        return None


class _SyntaxFault(ConfigError):
    """A `ConfigError` that remembers its sentence without the place."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(f"{place}: {text}")
        self.text = text


def _text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{name}: no such file{_similar_files(path, name)}") from None
    except IsADirectoryError:
        inside = sorted(child.name for child in path.iterdir() if child.suffix in (".yaml", ".yml"))
        hint = f"; name one of the files in it: {', '.join(inside[:8])}" if inside else ", and holds no YAML file"
        raise ConfigError(f"{name}: is a folder{hint}") from None
    except NotADirectoryError:
        raise ConfigError(f"{name}: no such file: a part of its path is a file, not a folder") from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{name}: is larger than {MAX_BYTES // 1000} kB, so it is hardly a run's YAML")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(f"{name}: is encoded as UTF-16; save it as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{name}:{line}:{column}: a byte here is not UTF-8; save the file as UTF-8") from None


def _similar_files(path: Path, name: str) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"; the folder {folder} does not exist either"
    names = [child.name for child in folder.iterdir() if child.suffix in (".yaml", ".yml")]
    near = closest(path.name, names) or closest(path.stem, [Path(other).stem for other in names])
    if near is not None:
        near = next((other for other in names if near in (other, Path(other).stem)), near)
        return f"; did you mean `{Path(name).parent / near}`?"
    return f"; that folder has {', '.join(sorted(names)[:8])}" if names else "; there is no YAML file in that folder"


def compose(text: str, reading: Reading) -> "yaml.Node | None":
    """PyYAML's node tree of one document, or None when there is none.

    Raises:
        ConfigError: a syntax error, with its place.
    """
    try:
        return yaml.compose(text, Loader)
    except yaml.reader.ReaderError as error:
        position = error.position
        line, column = text.count("\n", 0, position), position - text.rfind("\n", 0, position) - 1
        mark = yaml.Mark(reading.name, position, line, column, None, 0)
        what = f"the character U+{ord(text[position]):04X} is not allowed in YAML; delete it"
        raise _SyntaxFault(reading.place(mark), what) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _SyntaxFault(reading.place(mark), _friendly(error, text)) from None
    except RecursionError:
        raise _SyntaxFault(reading.place(None), "brackets or sections are nested far too deeply") from None


def _friendly(error: yaml.MarkedYAMLError, text: str) -> str:
    mark, problem, context = error.problem_mark, error.problem or "", error.context or ""
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\\t" in problem or "\t" in line[: len(line) - len(line.lstrip())]:
        return "a tab; YAML is indented with spaces only"
    if "alias" in context or "alias" in problem or "anchor" in context:
        return 'a text that starts with `*` or `&` must be in quotes, such as "*.py"'
    if "single document" in context:
        return "a second document starts here (`---`); a run is one document"
    if "cannot start any token" in problem:
        return f"a text that starts with `{line[mark.column : mark.column + 1] if mark else ''}` must be in quotes"
    if "could not find expected ':'" in problem:
        return "not valid YAML: a key needs `: ` (a colon and a space) after it, on the same line"
    if "mapping values are not allowed" in problem:
        return "not valid YAML: a second `: ` in this line, or an indentation that differs from the line above"
    if "expected <block end>" in problem:
        return "not valid YAML: the indentation differs from the lines above that belong to the same section"
    if "flow" in context:
        return "not valid YAML: a bracket `[` or `{` is not closed, or a comma is missing"
    if "quoted scalar" in context:
        return "not valid YAML: a quotation mark is not closed"
    return f"not valid YAML: {problem or context}"


def _build(node: "yaml.Node", reading: Reading, path: KeyPath, above: tuple[int, ...]) -> Node:
    reading.count += 1
    if reading.count > MAX_NODES:
        text = f"the YAML has more than {MAX_NODES} values, aliases counted as often as they are used"
        raise _SyntaxFault(reading.place(node.start_mark), text)
    if id(node) in above:
        raise _SyntaxFault(reading.place(node.start_mark), "an alias stands inside what it names, without end")
    inside = (*above, id(node))
    place = reading.place(node.start_mark)
    if isinstance(node, yaml.MappingNode):
        return Node(_entries(node, reading, path, inside), place)
    if isinstance(node, yaml.SequenceNode):
        items = [_build(child, reading, (*path, index), inside) for index, child in enumerate(node.value)]
        return Node(items, place)
    return _scalar(node, reading, path)


def _entries(node: "yaml.MappingNode", reading: Reading, path: KeyPath, above: tuple[int, ...]) -> dict[str, Node]:
    merged: dict[str, Node] = {}
    own: dict[str, Node] = {}
    lines: dict[str, int] = {}
    for key_node, value_node in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            for mapping in _merge_sources(value_node, reading, path, above):
                merged = {**mapping, **merged}
            continue
        key = _key(key_node, reading, path)
        if key is None:
            continue
        if key in own:
            text = f"the key is here a second time (first in line {lines[key]}); delete one of the two"
            reading.complain(key_node.start_mark, dotted((*path, key)), text)
            continue
        lines[key] = key_node.start_mark.line + 1
        built = _build(value_node, reading, (*path, key), above)
        own[key] = replace(built, place=reading.place(key_node.start_mark))
    return {**merged, **own}


def _merge_sources(
    node: "yaml.Node", reading: Reading, path: KeyPath, above: tuple[int, ...]
) -> Iterator[dict[str, Node]]:
    for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        built = _build(source, reading, path, above)
        if built.entries is None:
            reading.complain(source.start_mark, dotted((*path, "<<")), "`<<` needs an alias of a section")
        else:
            yield built.entries


def _key(node: "yaml.Node", reading: Reading, path: KeyPath) -> str | None:
    if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
        return node.value
    if isinstance(node, yaml.ScalarNode):
        text = f"YAML reads the key `{node.value}` as a number, boolean or null; write it in quotes"
        reading.complain(node.start_mark, dotted((*path, node.value)), text)
    else:
        reading.complain(
            node.start_mark, dotted(path), "a key must be a text; a value that starts with `{` or `[` may need quotes"
        )
    return None


def _scalar(node: "yaml.Node", reading: Reading, path: KeyPath) -> Node:
    place = reading.place(node.start_mark)
    try:
        value = Loader("").construct_object(node)
        if not (isinstance(value, int) and not isinstance(value, bool) and _OLD_NUMBER.match(node.value)):
            return Node(value, place, left_empty=not node.value)
        text = f"YAML reads `{node.value}` as {value}; write the number that is meant, or quotes around a text"
    except yaml.constructor.ConstructorError:
        text = f"the YAML tag `{node.tag}` is not supported; write a plain value"
    except ValueError:
        text = f"`{node.value}` looks like a number but is none; write it in quotes if it is a text"
    reading.complain(node.start_mark, dotted(path), text)
    return Node(None, place, unreadable=True)
