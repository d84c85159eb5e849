"""YAML files and `key=value` arguments → a validated configuration, or all of its problems at once.

The way of a value: `source` reads files into trees that remember places, `inherit` and `overrides` lay them over
each other, `interpolate` has OmegaConf resolve `${…}`, pydantic validates, `messages` turns faults into sentences.
"""

from copy import deepcopy
from functools import reduce
from typing import Literal, overload

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from codelm.config import interpolate
from codelm.config.data import DataConfig
from codelm.config.eval import EvalConfig
from codelm.config.fields import Section
from codelm.config.inherit import load_chain
from codelm.config.messages import likely_name, problems_of
from codelm.config.overrides import apply_overrides, is_file
from codelm.config.shape import models_at, path_of, shape
from codelm.config.train import TrainConfig
from codelm.config.tree import KeyPath, Node, Problem, dotted, find
from codelm.errors import ConfigError

Kind = Literal["train", "data", "eval"]
SCHEMAS: dict[str, type[Section]] = {"train": TrainConfig, "data": DataConfig, "eval": EvalConfig}
MAX_SHOWN = 100


@overload
def load_config(kind: Literal["train"], path: str, overrides: list[str] = ...) -> TrainConfig: ...
@overload
def load_config(kind: Literal["data"], path: str, overrides: list[str] = ...) -> DataConfig: ...
@overload
def load_config(kind: Literal["eval"], path: str, overrides: list[str] = ...) -> EvalConfig: ...


def load_config(kind: Kind, path: str, overrides: list[str] | None = None) -> Section:
    """The configuration in the YAML file `path`, with other files and then `key=value` arguments laid over it.

    Args:
        overrides: `key=value`, and names of YAML files.

    Raises:
        ConfigError: one line for each problem, in the order of the files and lines they stand at.
    """
    schema = SCHEMAS[kind]
    problems: list[Problem] = []
    files = [argument for argument in overrides or [] if is_file(argument)]
    tree = load_chain([path, *files], schema, problems)
    tree = apply_overrides(tree, [argument for argument in overrides or [] if not is_file(argument)], schema, problems)
    values, broken = interpolate.resolve(tree, problems)
    values = _without_empty_sections(values, schema, tree, problems)
    config = None
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        faults += _faults_behind_names(faults, values, broken, schema)
        problems += problems_of(faults, kind, schema, tree, values, broken)
    if problems or config is None:
        raise ConfigError(_report(problems))
    return config


def _report(problems: list[Problem]) -> str:
    lines = list(dict.fromkeys(str(problem) for problem in sorted(problems, key=lambda problem: problem.place.rank)))
    if len(lines) > MAX_SHOWN:
        lines[MAX_SHOWN:] = [f"… and {len(lines) - MAX_SHOWN} more"]
    return "\n".join(lines)


def _faults_behind_names(
    faults: list[ErrorDetails], values: dict, broken: set[KeyPath], schema: type[Section]
) -> list[ErrorDetails]:
    """What pydantic would also have found in the sections whose `name` it did not know."""
    guessed = deepcopy(values)
    known = {(fault["type"], fault["loc"]) for fault in faults}
    for fault in faults:
        path = path_of(schema, fault["loc"], values)
        if fault["type"] in ("union_tag_invalid", "union_tag_not_found") and (*path, "name") not in broken:
            section = reduce(lambda inside, part: inside[part], path, guessed)
            if isinstance(section, dict):
                section["name"] = likely_name(models_at(schema, path, None), section)
    try:
        schema.model_validate(guessed)
    except ValidationError as error:
        return [fault for fault in error.errors(include_url=False) if (fault["type"], fault["loc"]) not in known]
    return []


def _without_empty_sections(
    values: dict, schema: type[Section], tree: Node, problems: list[Problem], above: KeyPath = ()
) -> dict:
    """Sections left empty (`callbacks:` with everything below it commented out) take their defaults.

    `null` does the same, unless the defaults do something and it could be meant to switch them off.
    """
    kept = {}
    for key, value in values.items():
        path = (*above, key)
        field = schema.model_fields.get(key)
        inner = shape(field.annotation) if field is not None else None
        if inner is not None and field is not None:
            empty = value is None and not inner.nullable and not field.is_required()
            if empty and (inner.models or (inner.entry is not None and not inner.choices)):
                problems += _null_for_off(path, inner.models, tree)
                continue
            if isinstance(value, dict) and len(inner.models) == 1:
                value = _without_empty_sections(value, inner.models[0], tree, problems, path)
        kept[key] = value
    return kept


def _null_for_off(path: KeyPath, models: tuple[type[Section], ...], tree: Node) -> list[Problem]:
    node = find(tree, path)
    off = models[0].off if len(models) == 1 else ""
    if not off or node is None or node.left_empty:
        return []
    text = f"null does not switch it off; write {off}, or delete the line for the defaults"
    return [Problem(node.place, dotted(path), text)]
