"""`--print-config` prints what loads again to the same; `--schema` agrees with the loader."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codelm.config import DataConfig, json_schema, load_config, resolved_yaml
from codelm.config.load import SCHEMAS
from codelm.config.shape import every_key

KINDS = pytest.mark.parametrize("kind", ["train", "data", "eval"])
YAMLS = sorted((Path(__file__).parents[2] / "yamls").rglob("*.yaml"))


@KINDS
def test_the_printed_configuration_loads_again_to_the_same(kind, write):
    config = load_config(kind, write("x.yaml", kind))
    printed = resolved_yaml(config)
    assert load_config(kind, write("y.yaml", printed)) == config
    assert yaml.safe_load(printed).keys() == SCHEMAS[kind].model_fields.keys()


AWKWARD = [
    "1e-4",
    "1e5",
    "yes",
    "null",
    "~",
    "",
    " a ",
    "${x}",
    "\\${x}",
    "\\\\${x}",
    "a\\",
    "2024-01-01",
    "é漢",
    "#",
    "a: b",
]


def with_repository(config: DataConfig, text: str) -> DataConfig:
    source = config.sources["here"].model_copy(update={"repository": text})
    return config.model_copy(update={"sources": {"here": source}})


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_survive_printing(text, write):
    config = with_repository(load_config("data", write("x.yaml", "data")), text)
    assert load_config("data", write("y.yaml", resolved_yaml(config))) == config


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text("\\${}ab:#'\"\n\r\x85\ufeff 1e-", max_size=12)
    | st.text(max_size=12).filter(lambda text: text != "???"),
    number=st.floats(min_value=1e-300, max_value=0.999),
)
def test_any_text_and_number_survive_printing(text, number, write):
    base = load_config("data", write("x.yaml", "data"))
    split = base.split.model_copy(update={"validation": number})
    config = with_repository(base.model_copy(update={"split": split}), text)
    assert load_config("data", write("y.yaml", resolved_yaml(config))) == config


def agrees(schema: dict[str, Any], value: object, root: dict[str, Any]) -> bool:
    """Whether a value fits a JSON Schema; knows the few keywords that ours has, and fails on any other."""
    known = {"$schema", "$defs", "$ref", "title", "description", "default", "examples", "type", "properties", "items",
             "additionalProperties", "propertyNames", "anyOf", "const", "enum", "pattern", "minimum", "maximum",
             "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems", "minProperties", "minLength", "if",
             "then", "not", "required"}  # fmt: skip
    assert schema.keys() <= known, schema.keys() - known
    if "$ref" in schema and not agrees(root["$defs"][schema["$ref"].removeprefix("#/$defs/")], value, root):
        return False
    if "anyOf" in schema and not any(agrees(branch, value, root) for branch in schema["anyOf"]):
        return False
    if "if" in schema and agrees(schema["if"], value, root) and not agrees(schema["then"], value, root):
        return False
    if "not" in schema and agrees(schema["not"], value, root):
        return False
    if ("const" in schema and value != schema["const"]) or ("enum" in schema and value not in schema["enum"]):
        return False
    types = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None), "integer": int}
    kind = schema.get("type")
    if kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False
    if kind in types and (not isinstance(value, types[kind]) or (kind == "integer" and isinstance(value, bool))):
        return False
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        fits = len(value) >= schema.get("minProperties", 0) and value.keys() >= set(schema.get("required", []))
        for key, child in value.items():
            inner = properties.get(key, others)
            fits = fits and (agrees(inner, child, root) if isinstance(inner, dict) else inner)
            fits = fits and agrees(schema.get("propertyNames", {}), key, root)
        return bool(fits)
    if isinstance(value, list):
        fits = schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        return fits and all(agrees(schema.get("items", {}), child, root) for child in value)
    if isinstance(value, str):
        return len(value) >= schema.get("minLength", 0) and bool(re.search(schema.get("pattern", ""), value))
    if isinstance(value, int | float):
        return (
            value >= schema.get("minimum", value)
            and value <= schema.get("maximum", value)
            and not value <= schema.get("exclusiveMinimum", float("-inf"))
            and not value >= schema.get("exclusiveMaximum", float("inf"))
        )
    return True


def fits(kind: str, text: str) -> bool:
    schema = json_schema(kind)
    return agrees(schema, yaml.safe_load(text), schema)


@KINDS
def test_the_schema_accepts_what_loads(kind, write):
    config = load_config(kind, write("x.yaml", kind))
    assert fits(kind, resolved_yaml(config))


@pytest.mark.parametrize("path", YAMLS, ids=[f"{path.parent.name}/{path.name}" for path in YAMLS])
def test_the_schema_accepts_every_yaml_here_for_one_kind(path):
    text = path.read_text(encoding="utf-8")
    # Laid over another file, as by `extends`.
    over = "extends: x.yaml\n" if path.stem.startswith("scale_down") else ""
    assert [kind for kind in SCHEMAS if fits(kind, over + text)] != []


ACCEPTED = [
    "extends: base.yaml",
    "extends: [a.yaml, b.yaml]\noptimizer: {weight_decay: 0.1}",
    "extends: x.yaml\nseed: ${oc.env:SEED}\noptimizer: ${other}\nmodel: {name: '${n}', n_layers: '${k}'}",
    "extends: x.yaml\ntrain_data: {mixture: {python: '${share}'}}\neval_data: {a: '${b}'}",
    "extends: x.yaml\ncallbacks: null\neval_data: null\nfsdp_config: null\nmax_duration: 5e9tok",
]
REJECTED = [
    "seed: 3",
    "extends: x.yaml\nseeed: 3",
    "extends: x.yaml\nseed: three",
    "extends: x.yaml\nseed: -1",
    "extends: x.yaml\nmax_duration: 100",
    "extends: x.yaml\nmax_duration: 100 batches",
    "extends: x.yaml\ndevice: cuda",
    "extends: x.yaml\noptimizer: {name: sgd}",
    "extends: x.yaml\noptimizer: {name: lionw, eps: 1.0}",
    "extends: x.yaml\ntrain_data: {mixture: {pyhton: 1.0}}",
    "extends: x.yaml\ntrain_data: {mixture: natrual}",
    "extends: 3",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_the_schema_accepts_references_and_parts(text):
    assert fits("train", text)


@pytest.mark.parametrize("text", REJECTED)
def test_the_schema_rejects_mistakes(text):
    assert not fits("train", text)


@KINDS
def test_descriptions_come_from_the_sections(kind):
    text = json.dumps(json_schema(kind), ensure_ascii=False)
    described = [field.description for _, field in every_key(SCHEMAS[kind]) if field.description]
    assert len(described) > 3
    for description in described:
        assert json.dumps(description, ensure_ascii=False) in text
