"""pydantic's errors and unknown keys → sentences that name the place, the fault and the fix."""

import json
import re
from typing import Any

from pydantic_core import ErrorDetails

from codelm.config.fields import Section
from codelm.config.renamed import LANGUAGE_ALIASES, RENAMED, VALUES
from codelm.config.shape import every_key, field_at, models_at, names, path_of, shape
from codelm.config.suggest import closest, slips
from codelm.config.tree import COMMAND_LINE, KeyPath, Node, Problem, dotted, find, place_of
from codelm.languages import LANGUAGES

MAX_LISTED = 12
MAX_UNKNOWN = 200
_SIZES = {"k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]i?|b)b?", re.IGNORECASE)
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def problems_of(
    errors: list[ErrorDetails], kind: str, schema: type[Section], root: Node, values: dict, broken: set[KeyPath]
) -> list[Problem]:
    """The problems behind pydantic's errors; what follows only from a broken `${…}` is left out."""
    found: list[tuple[KeyPath, Problem]] = []
    guessed: set[KeyPath] = set()
    for error in errors:
        path = path_of(schema, error["loc"], values)
        if error["type"].startswith("union_tag"):
            path = (*path, "name")
        if any(path[: len(bad)] == bad or bad[: len(path)] == path for bad in broken):
            continue
        if error["type"] == "extra_forbidden" and len(found) > MAX_UNKNOWN:
            text = "unknown key"
        else:
            text = _sentence(error, path, kind, schema, root, values, guessed)
        place = place_of(root, _blamed(error, path, root))
        found.append((path, Problem(place, dotted(path), text)))
    return [problem for path, problem in found if path not in guessed or find(root, path) is not None]


def _blamed(error: ErrorDetails, path: KeyPath, root: Node) -> KeyPath:
    """The key that a section's own check speaks of; of several the one given last (command line, child, parent)."""
    section = find(root, path)
    if error["type"] != "value_error" or section is None or section.entries is None:
        return path
    named = [word for word in re.findall(r"\w+", error["msg"]) if word in section.entries]
    ranks = {word: section.entries[word].place.rank for word in named}
    last = min(named, key=lambda word: (ranks[word][0] != COMMAND_LINE, ranks[word][0]), default=None)
    return path if last is None else (*path, last)


def _sentence(
    error: ErrorDetails,
    path: KeyPath,
    kind: str,
    schema: type[Section],
    root: Node,
    values: dict,
    guessed: set[KeyPath],
) -> str:
    type_, got, context = error["type"], error.get("input"), error.get("ctx", {})
    field = field_at(schema, path, values)
    if type_ == "extra_forbidden":
        return _unknown_key(path, kind, schema, values, guessed)
    if type_ == "missing":
        section = find(root, path[:-1])
        note = f"; {section.note}" if section is not None and section.note else ""
        return "is missing" + _what_it_is(field) + note
    if type_ == "union_tag_not_found":
        return f"is missing; it chooses what the section is: {_listed(names(models_at(schema, path[:-1], None)))}"
    if type_ == "union_tag_invalid":
        name = got.get("name") if isinstance(got, dict) else got
        return _none_of(name, list(names(models_at(schema, path[:-1], None))))
    if type_ == "literal_error":
        return _not_a_choice(got, _annotation(path, schema, values))
    if type_ == "language":
        return _unknown_language(str(context.get("name", got)))
    if type_ in _BOUNDS:
        bound, words = _BOUNDS[type_]
        return f"should be {words} {context[bound]:g} (got {describe_value(got)})"
    if type_ in ("too_short", "too_long"):
        limit = context.get("min_length", context.get("max_length"))
        words = "at least" if type_ == "too_short" else "at most"
        return f"should have {words} {limit} {'entry' if limit == 1 else 'entries'} (got {context['actual_length']})"
    if type_ == "string_too_short":
        return "should not be empty"
    if type_ == "string_pattern_mismatch":
        return f"`{got}` has characters that do not belong; use letters, digits, `_`, `-` and `.`"
    if type_ == "finite_number":
        return f"should be a finite number (got {describe_value(got)})"
    if type_ == "value_error":
        return error["msg"].removeprefix("Value error, ")
    expected = _EXPECTED.get(type_)
    if expected is None:
        return error["msg"][:1].lower() + error["msg"][1:]
    return f"should be {expected}, not {describe(got)}{_remedy(type_, got)}"


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list, such as [a, b]",
    "dict_type": "a section (keys indented below it)",
    "model_type": "a section (keys indented below it)",
    "model_attributes_type": "a section (keys indented below it)",
}


def describe(value: object) -> str:
    """What the user wrote, with its type: `the text `abc``, `the number 3`, `null`, `a section`, `a list`."""
    if value is None:
        return "null (nothing)"
    if isinstance(value, dict):
        return "a section"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return f"the boolean {describe_value(value)}"
    return f"the text `{_short(value)}`" if isinstance(value, str) else f"the number {describe_value(value)}"


def describe_value(value: object) -> str:
    """A scalar as it is written in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return _short(value if isinstance(value, str) else json.dumps(value, default=str))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}…"


def _remedy(type_: str, got: object) -> str:
    if type_ == "string_type" and isinstance(got, int | float):
        return f'; write it in quotes: "{describe_value(got)}"'
    if type_ == "list_type" and isinstance(got, str | int | float):
        return f"; write [{describe_value(got)}]"
    if type_ == "bool_type" and got in (0, 1):
        return f"; write {'true' if got else 'false'}"
    if type_ == "bool_type" and isinstance(got, str) and got.lower() in ("true", "false"):
        return "; remove the quotes (of an environment variable: ${oc.decode:${oc.env:NAME}})"
    if type_ in ("int_type", "int_from_float") and isinstance(got, float) and got.is_integer():
        return f"; write {int(got)}"
    if type_ in ("int_type", "float_type") and isinstance(got, str):
        return _number_remedy(got)
    return ""


def _number_remedy(text: str) -> str:
    if re.fullmatch(r"[-+]?[\d_]*\.?\d+(?:e[-+]?\d+)?", text.strip(), re.IGNORECASE):
        return "; remove the quotes (of an environment variable: ${oc.decode:${oc.env:NAME}})"
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+", text):
        return f"; write {text.replace(',', '_')}"
    if match := _SIZE.fullmatch(text.strip()):
        return f"; write {int(float(match['number']) * _SIZES[match['unit'].lower()]):_}"
    return ""


def _what_it_is(field: Any) -> str:
    text = (field.description or "") if field is not None else ""
    if not text and field is not None:
        models = shape(field.annotation).models
        text = (models[0].__doc__ or "") if len(models) == 1 else ""
    first = text.strip().split("\n")[0].rstrip(".")
    return f" ({first})" if first else ""


def _listed(words: Any) -> str:
    return ", ".join(describe_value(word) for word in words)


def _annotation(path: KeyPath, schema: type[Section], values: dict) -> Any:
    """What is allowed at a path, which may be an entry of a list."""
    if path and isinstance(path[-1], int):
        return shape(_annotation(path[:-1], schema, values)).item
    field = field_at(schema, path, values)
    return field.annotation if field is not None else Any


def _not_a_choice(got: object, annotation: Any) -> str:
    found = shape(annotation)
    text = _none_of(got, list(found.choices))
    other = "shares by language ({python: 1.0, …})" if found.entry is not None else "a list" if found.item else None
    return text.replace(" is none of ", f" is neither {other} nor one of ") if other else text


def _none_of(got: object, choices: list[Any]) -> str:
    comparable = isinstance(got, str) and any(isinstance(choice, str) for choice in choices)
    shown = f"`{_short(got)}`" if isinstance(got, str) and comparable else describe(got)
    if len(choices) > MAX_LISTED and (near := near_choice(got, choices)):
        return f"{shown} is none of the {len(choices)} that there are; did you mean `{near}`?"
    text = f"{shown} is none of {_listed(choices)}" if len(choices) > 1 else f"{shown} is not {_listed(choices)}"
    if got is False and "off" in choices:
        return f'{text}; YAML reads off as false, so write "off" in quotes'
    near = near_choice(got, choices)
    return f"{text}; did you mean `{near}`?" if near else text


def near_choice(got: object, offered: list[Any]) -> str | None:
    """The choice that was probably meant, or None."""
    if not isinstance(got, str):
        return None
    known = [choice for choice in offered if isinstance(choice, str)]
    habits = {habit: choice for habit, choices in VALUES.items() for choice in choices[::-1] if choice in known}
    return habits.get(got.lower()) or closest(got, known) or habits.get(closest(got, habits) or "")


def likely_name(models: tuple[type[Section], ...], section: dict) -> str:
    """The `name` that a section with a wrong or missing one probably meant: by spelling, else by its other keys."""
    known = names(models)
    given = [section[key] for key in section if closest(str(key), ["name"], limit=1)]
    near = next((near for value in given if (near := near_choice(value, list(known)))), None)
    return near or max(known, key=lambda name: len(known[name].model_fields.keys() & section.keys()))


def _unknown_language(name: str) -> str:
    near = LANGUAGE_ALIASES.get(name.lower()) or closest(name, LANGUAGES)
    if near is None:
        titles = {language.title: language.name for language in LANGUAGES.values()}
        near = titles.get(closest(name, titles) or "")
    hint = f"; did you mean `{near}`?" if near else f": {', '.join(LANGUAGES)}"
    return f"`{_short(name)}` is none of the {len(LANGUAGES)} languages{hint}"


def _unknown_key(path: KeyPath, kind: str, schema: type[Section], values: dict, guessed: set[KeyPath]) -> str:
    *above, last = path
    key, section = str(last), tuple(above)
    siblings = [name for model in models_at(schema, section, values) for name in model.model_fields]
    if advice := RENAMED[kind].get(".".join(str(part) for part in path)):
        _remember(advice, path, siblings, guessed)
        return f"unknown key; {advice}"
    if near := closest(key, siblings, limit=1):
        guessed.add((*section, near))
        # `load_in_bit` may be load_in_4bit as well as load_in_8bit.
        also = sorted(other for other in siblings if other != near and slips(key, other) == slips(key, near))
        return f"unknown key; did you mean {' or '.join(f'`{name}`' for name in (near, *also))}?"
    if key == "extends":
        return "unknown key; `extends` stands at the top of a file only"
    others = {".".join(map(str, other)): other for other, _ in every_key(schema) if other[:-1] != section}
    if homes := [name for name, other in others.items() if other[-1] == key]:
        return f"unknown key here; it belongs to {' or '.join(_section_names(homes))}"
    if near := closest(key, siblings):
        guessed.add((*section, near))
        return f"unknown key; did you mean `{near}`?"
    if advice := RENAMED[kind].get(closest(key, [name for name in RENAMED[kind] if "." not in name], limit=1) or ""):
        return f"unknown key; {advice}"
    if near := closest(key, sorted({str(other[-1]) for other in others.values()})):
        homes = [name for name, other in others.items() if other[-1] == near]
        return f"unknown key; did you mean `{homes[0]}`?"
    if len(siblings) > MAX_LISTED:
        return "unknown key; --schema lists all keys with what they mean"
    return f"unknown key; the keys here are {', '.join(siblings)}"


def _remember(advice: str, path: KeyPath, siblings: list[str], guessed: set[KeyPath]) -> None:
    for word in re.findall(r"`([\w.]+)", advice):
        parts = tuple(word.split("."))
        guessed.add(parts)
        if parts[-1] in siblings:
            guessed.add((*path[:-1], parts[-1]))


def _section_names(paths: list[str]) -> list[str]:
    return sorted({f"`{path.rpartition('.')[0]}`" if "." in path else "the top level" for path in paths})
