"""JSON Schema of a run's YAML, for editors: completion, descriptions and red lines while typing."""

from typing import Any

from codelm.config.load import SCHEMAS, Kind

_INTERPOLATION = {"type": "string", "pattern": r"\$\{.*\}"}
_SCALARS = ("integer", "number", "boolean", "array", "object")


def json_schema(kind: Kind) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a kind of YAML file, with `extends` and `${…}` allowed everywhere.

    Keys are required only in a file that extends no other, and only at the top level: a child may give a part.
    """
    schema = SCHEMAS[kind].model_json_schema(mode="validation")
    required = schema.get("required", [])
    schema = _loosened(schema)
    schema["properties"] = {
        "extends": {
            "description": "The YAML file (or list of files) that this one is laid over; relative to this file.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        },
        **schema["properties"],
    }
    unless = {"if": {"not": {"required": ["extends"]}}, "then": {"required": required}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, **unless}


def _loosened(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `${…}` texts allowed in place of every value, and nothing required."""
    loose = {key: value for key, value in schema.items() if key not in ("required", "discriminator", "title")}
    for key in ("properties", "$defs"):
        if key in loose:
            wrap = _or_interpolation if key == "properties" else _loosened
            loose[key] = {name: wrap(child) for name, child in loose[key].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(loose.get(key), dict):
            loose[key] = _or_interpolation(loose[key])
    for key in ("anyOf", "oneOf"):
        if key in loose:
            branches = [_loosened(child) for child in loose.pop(key)]
            loose["anyOf"] = branches
    return loose


def _or_interpolation(schema: dict[str, Any]) -> dict[str, Any]:
    loose = _loosened(schema)
    about = {key: loose.pop(key) for key in ("description", "default", "examples") if key in loose}
    branches = loose.pop("anyOf") if set(loose) == {"anyOf"} else [loose]
    # The loader takes a section left empty for its default.
    section = any("$ref" in branch or branch.get("type") == "object" for branch in branches)
    empty = [{"type": "null"}] if section and about.get("default") is not None else []
    return {**about, "anyOf": [*branches, *empty, _INTERPOLATION]}
