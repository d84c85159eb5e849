"""`${…}` in values, resolved by OmegaConf: other keys, `${oc.env:NAME}`, and `${sysconfig:stdlib}`."""

import re
import sysconfig

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from codelm.config.source import KeyPath, Node, Problem, dotted, place_of, plain
from codelm.config.suggest import closest

MAX_VALUES = 100_000


def sysconfig_folder(name: str) -> str:
    """A folder of this Python: `stdlib` (the standard library's sources), `purelib` (installed packages) …"""
    if name not in sysconfig.get_path_names():
        raise ValueError(f"`{name}` is none of {', '.join(sysconfig.get_path_names())}")
    return sysconfig.get_path(name)


OmegaConf.register_resolver("sysconfig", sysconfig_folder, replace=True)


def resolve(root: Node, problems: list[Problem]) -> tuple[dict, set[KeyPath]]:
    """The tree's values with every `${…}` replaced, and the paths whose `${…}` cannot be (they hold None)."""
    walk = _Walk(root, problems)
    values = walk.checked(root, ())
    config = OmegaConf.create(values)
    return walk.resolved(config, ()), walk.broken


class _Walk:
    def __init__(self, root: Node, problems: list[Problem]) -> None:
        self.root, self.problems = root, problems
        self.broken: set[KeyPath] = set()
        self.count = 0

    def checked(self, node: Node, path: KeyPath) -> object:
        if isinstance(node.value, dict):
            return {key: self.checked(child, (*path, key)) for key, child in node.value.items()}
        if isinstance(node.value, list):
            return [self.checked(child, (*path, index)) for index, child in enumerate(node.value)]
        if isinstance(node.value, str) and "${" in node.value:
            try:
                OmegaConf.create({"value": node.value})
            except OmegaConfBaseException:
                return self._fail(path, f"`{node.value}` is not a well-formed ${{…}} expression")
        return node.value

    def resolved(self, config: object, path: KeyPath) -> object:
        if isinstance(config, DictConfig):
            return {key: self._entry(config, key, (*path, str(key))) for key in config}
        if isinstance(config, ListConfig):
            return [self._entry(config, index, (*path, index)) for index in range(len(config))]
        return config

    def _entry(self, config: "DictConfig | ListConfig", key: object, path: KeyPath) -> object:
        self.count += 1
        if self.count > MAX_VALUES or len(path) > 50:
            return self._fail(path, "the ${…} references expand without end") if self.count <= MAX_VALUES + 1 else None
        if path in self.broken:
            return None
        try:
            value = config[key]  # pyright: ignore[reportArgumentType]
        except RecursionError:
            return self._fail(path, "the ${…} references go round in a circle")
        except OmegaConfBaseException as error:
            return self._fail(path, self._sentence(error))
        return self.resolved(value, path)

    def _fail(self, path: KeyPath, text: str) -> None:
        self.broken.add(path)
        self.problems.append(Problem(place_of(self.root, path), dotted(path), text))

    def _sentence(self, error: OmegaConfBaseException) -> str:
        text = str(error).splitlines()[0]
        if text.startswith("Missing mandatory value"):
            return "has no value yet (`???`); give it one"
        if match := re.search(r"Interpolation key '(.*)' not found", text):
            near = closest(match[1], list(_paths(plain(self.root))))
            hint = f"; did you mean `${{{near}}}`?" if near else "; ${…} reaches only keys that the YAML itself gives"
            return f"`${{{match[1]}}}` names no key{hint}"
        if match := re.search(r"Environment variable '(.*)' not found", text):
            return f"the environment variable {match[1]} is not set; set it, or write ${{oc.env:{match[1]},default}}"
        if match := re.search(r"Unsupported interpolation type (.*)", text):
            return f"there is no resolver `{match[1]}`; known are ${{key}}, ${{oc.env:NAME}} and ${{sysconfig:stdlib}}"
        return f"the ${{…}} fails: {text}"


def _paths(values: object, above: str = "") -> list[str]:
    if not isinstance(values, dict):
        return [above] if above else []
    found = [above] if above else []
    for key, child in values.items():
        found += _paths(child, f"{above}.{key}" if above else key)
    return found
