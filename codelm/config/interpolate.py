"""`${…}` in values, resolved by OmegaConf: other keys, `${oc.env:NAME}`, and `${sysconfig:stdlib}`."""

import re
import sysconfig
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codelm.config.suggest import closest
from codelm.config.tree import KeyPath, Node, Problem, dotted, find, place_of

MAX_SIZE = 1_000
MAX_TOTAL = 20_000
MAX_HOPS = 50
_REFERENCE = re.compile(r"\$\{\s*(?P<dots>\.*)(?P<key>[^\s.:${}][^\s:${}]*)\s*\}")
_COMPUTED_NAME = re.compile(r"\$\{[^:{}]*\$\{")


def sysconfig_folder(name: str) -> str:
    """A folder of this Python: `stdlib` (the standard library's sources), `purelib` (installed packages) …"""
    if name not in sysconfig.get_path_names():
        raise ValueError(f"`{name}` is none of {', '.join(sysconfig.get_path_names())}")
    return sysconfig.get_path(name)


OmegaConf.register_resolver("sysconfig", sysconfig_folder, replace=True)


def resolve(root: Node, problems: list[Problem]) -> tuple[dict[str, Any], set[KeyPath]]:
    """The tree's values with every `${…}` replaced, and the paths whose `${…}` cannot be (they hold None)."""
    resolution = _Resolution(root, problems)
    config = OmegaConf.create({key: resolution.checked(child, (key,)) for key, child in (root.entries or {}).items()})
    return {str(key): resolution.entry(config, key, (str(key),)) for key in config}, resolution.broken


class _Resolution:
    """One pass over a tree: first every expression is checked by itself, then OmegaConf resolves them."""

    def __init__(self, root: Node, problems: list[Problem]) -> None:
        self.root, self.problems = root, problems
        self.broken: set[KeyPath] = set()
        self.sizes: dict[KeyPath, int | None] = {}
        self.total = 0

    def checked(self, node: Node, path: KeyPath) -> Any:
        """The raw values, with None for an expression that OmegaConf could not parse or that never ends."""
        if isinstance(node.value, dict):
            return {key: self.checked(child, (*path, key)) for key, child in node.value.items()}
        if isinstance(node.value, list):
            return [self.checked(child, (*path, index)) for index, child in enumerate(node.value)]
        if node.unreadable:
            self.broken.add(path)
        if not (isinstance(node.value, str) and "${" in node.value):
            return node.value
        try:
            OmegaConf.create({"value": node.value})
        except OmegaConfBaseException:
            return self.fail(path, f"`{node.value}` is not a well-formed ${{…}} expression")
        if _COMPUTED_NAME.search(node.value):
            return self.fail(path, "a ${…} inside the name of another is not supported")
        size = self.size(path)
        if size is None:
            return self.fail(path, "the ${…} references go round in a circle")
        self.total += size
        if size > MAX_SIZE or self.total > MAX_TOTAL:
            return self.fail(path, "the ${…} references expand to far too much")
        return node.value

    def size(self, path: KeyPath) -> int | None:
        """How many references and values stand behind `path` when all is expanded; None for a circle."""
        if path in self.sizes:
            return self.sizes[path]
        node = find(self.root, path)
        if node is None:
            return 1
        self.sizes[path] = None
        if isinstance(node.value, str):
            targets = self.targets(node.value, path)
        elif isinstance(node.value, dict | list):
            keys = node.value if isinstance(node.value, dict) else range(len(node.value))
            targets = [(*path, key) for key in keys]
        else:
            targets = []
        parts = [self.size(target) for target in targets]
        known = [part for part in parts if part is not None]
        self.sizes[path] = 1 + sum(known) if len(known) == len(parts) else None
        return self.sizes[path]

    def targets(self, text: str, path: KeyPath) -> list[KeyPath]:
        """The absolute paths that the `${…}` in a text name."""
        found = []
        for match in _REFERENCE.finditer(text):
            parts = tuple(int(part) if part.isdigit() else part for part in re.split(r"[.\[\]]+", match["key"]) if part)
            above = path[: -len(match["dots"])] if match["dots"] else ()
            found.append(self.through((*above, *parts)))
        return found

    def through(self, path: KeyPath) -> KeyPath:
        """`path` with every section on its way that is itself a `${…}` replaced by what that names."""
        for _ in range(MAX_HOPS):
            for depth in range(1, len(path)):
                node = find(self.root, path[:depth])
                if node is not None and isinstance(node.value, str) and (match := _REFERENCE.fullmatch(node.value)):
                    above = path[: depth - len(match["dots"])] if match["dots"] else ()
                    path = (*above, *match["key"].split("."), *path[depth:])
                    break
            else:
                break
        return path

    def resolved(self, config: Any, path: KeyPath) -> Any:
        if isinstance(config, DictConfig):
            return {key: self.entry(config, key, (*path, str(key))) for key in config}
        if isinstance(config, ListConfig):
            return [self.entry(config, index, (*path, index)) for index in range(len(config))]
        return config

    def entry(self, config: DictConfig | ListConfig, key: Any, path: KeyPath) -> Any:
        """The value at `path`, its own `${…}` and those inside it resolved."""
        if path in self.broken:
            return None
        try:
            value = config[key]
        except OmegaConfBaseException as error:
            return self.fail(path, self.sentence(error))
        except RecursionError:
            return self.fail(path, "the ${…} references go round in a circle")
        return self.resolved(value, path)

    def fail(self, path: KeyPath, text: str) -> None:
        self.broken.add(path)
        self.problems.append(Problem(place_of(self.root, path), dotted(path), text))

    def sentence(self, error: OmegaConfBaseException) -> str:
        text = str(error).splitlines()[0]
        if text.startswith("Missing mandatory value"):
            return "has no value yet (`???`); give it one"
        if match := re.search(r"Interpolation key '(.*)' not found", text):
            near = closest(match[1], _keys(self.root))
            hint = f"did you mean `${{{near}}}`?" if near else "${…} reaches only what the YAML gives, not defaults"
            return f"`${{{match[1]}}}` names no key of the YAML; {hint}"
        if match := re.search(r"Environment variable '(.*)' not found", text):
            return f"the environment variable {match[1]} is not set; set it, or write ${{oc.env:{match[1]},default}}"
        if match := re.search(r"Unsupported interpolation type (.*)", text):
            return f"there is no resolver `{match[1]}`; there are ${{key}}, ${{oc.env:NAME}} and ${{sysconfig:stdlib}}"
        return f"the ${{…}} fails: {re.sub('^.*raised while resolving interpolation: ', '', text)}"


def _keys(node: Node, above: KeyPath = ()) -> list[str]:
    found = [dotted(above)] if above else []
    for key, child in (node.entries or {}).items():
        found += _keys(child, (*above, key))
    return found
