"""Every key of every section: one wrong letter is caught where it stands, and the right key is suggested."""

import re
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codelm.config import load_config
from codelm.config.fields import Section
from codelm.config.load import SCHEMAS
from codelm.config.renamed import LANGUAGE_ALIASES
from codelm.config.shape import names, shape
from codelm.config.suggest import closest
from codelm.errors import ConfigError
from codelm.languages import LANGUAGES

Path = tuple[str, ...]
Sections = Iterator[tuple[Path, dict[Path, str], type[Section]]]


def sections(schema: type[Section], above: Path = (), given: dict[Path, str] | None = None) -> Sections:
    """Every section class of a kind with the path it may stand at, and the `name`s on the way that choose it."""
    given = given or {}
    yield above, given, schema
    for key, field in schema.model_fields.items():
        found = shape(field.annotation)
        yield from alternatives(found.models, (*above, key), given)
        if found.entry is not None:
            yield from alternatives(shape(found.entry).models, (*above, key, "mine"), given)


def alternatives(models: tuple[type[Section], ...], path: Path, given: dict[Path, str]) -> Sections:
    """The sections of a place that holds one of several."""
    by_name = names(models) if len(models) > 1 else {}
    for model in models:
        mine = [name for name, other in by_name.items() if other is model]
        yield from sections(model, path, {**given, path: mine[0]} if mine else given)


EVERY_SECTION = [
    pytest.param(kind, path, given, model, id=f"{kind}-{'.'.join(path)}-{model.__name__}")
    for kind, schema in SCHEMAS.items()
    for path, given, model in sections(schema)
]


YAML_WORDS = ("n", "y", "on", "no")


def typos(key: str) -> set[str]:
    """Every key with one letter dropped, doubled, changed to a neighbour or swapped with the next."""
    found = set()
    for index, letter in enumerate(key):
        head, tail = key[:index], key[index + 1 :]
        found |= {head + tail, head + letter * 2 + tail, head + "x" + tail, head + "q" + letter + tail}
        if tail:
            found.add(head + tail[0] + letter + tail[1:])
    return {typo for typo in found if typo and typo != key}


@pytest.mark.parametrize(("kind", "path", "given", "model"), EVERY_SECTION)
def test_a_wrong_letter_is_caught_and_the_right_key_suggested(kind, path, given, model, write, problems):
    keys = set(model.model_fields)
    head = [f"name: {given[()]}"] if () in given else []
    for level, part in enumerate(path, 1):
        head.append(f"{'  ' * (level - 1)}{part}:")
        if path[:level] in given:
            head.append(f"{'  ' * level}name: {given[path[:level]]}")
    indent = "  " * len(path)
    for key in keys:
        wrong = sorted(typo for typo in typos(key) - keys if typo not in YAML_WORDS)
        for start in range(0, len(wrong), 50):
            some = wrong[start : start + 50]
            found = problems(kind, write("x.yaml", "\n".join(head + [f"{indent}{typo}: 1" for typo in some])))
            for row, typo in enumerate(some, start=len(head) + 1):
                beginning = f"x.yaml:{row}:{len(indent) + 1}: {'.'.join((*path, typo))}: unknown key"
                (line,) = [line for line in found if line.startswith(beginning)]
                assert key in re.findall(r"\w+", line.removeprefix(beginning)), line


def test_a_wrong_letter_in_a_language_is_suggested_too(write, problems):
    for language in LANGUAGES:
        for typo in sorted(typos(language) - LANGUAGES.keys() - LANGUAGE_ALIASES.keys() - set(YAML_WORDS)):
            line = problems("data", write("x.yaml", f"languages: ['{typo}']\n"))[-1]
            message = f"x.yaml:1:13: languages[0]: `{typo}` is none of the {len(LANGUAGES)} languages"
            assert line.startswith(message), line
            suggested = re.findall("did you mean `(.*)`", line)
            # A wrong letter may make a short name as near to another, or leave nothing of it.
            assert suggested == [language] or len(typo) <= 3, line


def test_nothing_is_suggested_for_what_resembles_nothing():
    assert closest("zzzz", ["alpha", "beta"]) is None
    assert closest("x", ["y"]) is None
    assert closest("x" * 100_000, ["x" * 100_000 + "y"]) is None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab${}:.0?é ", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abname", max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(SCHEMAS)), data=st.data())
def test_whatever_value_a_key_has_the_answer_is_a_configuration_or_lines(kind, data, write):
    path, chosen, model = data.draw(st.sampled_from(list(sections(SCHEMAS[kind]))))
    values: object = {data.draw(st.sampled_from(list(model.model_fields))): data.draw(VALUES)}
    for level in range(len(path), 0, -1):
        values = {path[level - 1]: {**({"name": chosen[path[:level]]} if path[:level] in chosen else {}), **values}}
    write("base.yaml", kind)
    child = write("x.yaml", yaml.safe_dump({"extends": "base.yaml", **values}, allow_unicode=True))
    try:
        assert load_config(kind, child) is not None
    except ConfigError as error:
        for line in str(error).splitlines():
            assert re.match(r"(x|base)\.yaml:\d+:\d+: ", line), line
