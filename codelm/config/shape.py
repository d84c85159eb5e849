"""What the section classes say about a place in the YAML: which keys may stand there, which of them a section is."""

import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import Tag
from pydantic.fields import FieldInfo

from codelm.config.fields import LICENCE_FORMS, MIXTURE_FORMS, Section
from codelm.config.tree import KeyPath


@dataclass(frozen=True)
class Shape:
    """What a value may be: one of `models` (chosen by `name` when several), a mapping of `entry`, or a scalar."""

    models: tuple[type[Section], ...] = ()
    entry: Any = None
    item: Any = None
    tagged: bool = False
    nullable: bool = False
    choices: tuple[object, ...] = ()


def shape(annotation: Any) -> Shape:
    """The shape of a type annotation."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner = shape(get_args(annotation)[0])
        tagged = inner.tagged or any(isinstance(extra, Tag) for extra in get_args(annotation)[1:])
        return Shape(inner.models, inner.entry, inner.item, tagged, inner.nullable, inner.choices)
    if origin in (Union, types.UnionType):
        parts = [shape(part) for part in get_args(annotation)]
        models = tuple(model for part in parts for model in part.models)
        return Shape(
            models,
            next((part.entry for part in parts if part.entry is not None), None),
            next((part.item for part in parts if part.item is not None), None),
            len(models) > 1 or any(part.tagged for part in parts),
            any(part.nullable for part in parts),
            tuple(choice for part in parts for choice in part.choices),
        )
    if annotation is type(None):
        return Shape(nullable=True)
    if origin is dict:
        return Shape(entry=get_args(annotation)[1])
    if origin is list:
        return Shape(item=get_args(annotation)[0])
    if origin is Literal:
        return Shape(choices=get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Shape(models=(annotation,))
    return Shape()


def names(models: tuple[type[Section], ...]) -> dict[str, type[Section]]:
    """The classes of a section that is chosen by its `name`."""
    return {
        name: model
        for model in models
        if "name" in model.model_fields
        for name in get_args(model.model_fields["name"].annotation)
    }


def models_at(root: type[Section], path: KeyPath, values: object) -> tuple[type[Section], ...]:
    """The section classes that `path` may hold, narrowed by the `name` that `values` (of the whole YAML) gives."""
    annotation: Any = root
    for part in path:
        annotation = _child(annotation, values, part)
        values = values.get(part) if isinstance(values, dict) else None
        if annotation is None:
            return ()
    return _narrow(shape(annotation).models, values)


def field_at(root: type[Section], path: KeyPath, values: object) -> FieldInfo | None:
    """The field behind the last key of `path`, or None when the path is no key of a section."""
    if not path:
        return None
    for model in models_at(root, path[:-1], values):
        if path[-1] in model.model_fields:
            return model.model_fields[path[-1]]
    return None


def path_of(root: type[Section], location: tuple[str | int, ...], values: object) -> KeyPath:
    """The path in the YAML behind a pydantic error's location, which also holds the tags of unions."""
    path: list[str | int] = []
    annotation: Any = root
    rest = list(location)
    while rest:
        current = shape(annotation) if annotation is not None else Shape()
        part = rest.pop(0)
        if current.tagged and part in (*names(current.models), *MIXTURE_FORMS, *LICENCE_FORMS):
            if not rest:
                break
            part = rest.pop(0)
        if part == "[key]":
            break
        path.append(part)
        annotation = _child(annotation, values, part)
        values = values.get(part) if isinstance(values, dict) else None
    return tuple(path)


def discriminated(root: type[Section], path: KeyPath) -> bool:
    """Whether the section at `path` is one of several, chosen by its `name`."""
    return len(models_at(root, path, None)) > 1


def every_key(root: type[Section], above: KeyPath = ()) -> Iterator[tuple[KeyPath, FieldInfo]]:
    """All keys of a run's YAML with their fields; the free keys of mappings are written `<name>`."""
    for key, field in root.model_fields.items():
        path = (*above, key)
        yield path, field
        inner = shape(field.annotation)
        for model in inner.models:
            yield from every_key(model, path)
        if inner.entry is not None:
            for model in shape(inner.entry).models:
                yield from every_key(model, (*path, "<name>"))


def _child(annotation: Any, values: object, part: str | int) -> Any:
    current = shape(annotation)
    if isinstance(part, int):
        return current.item
    for model in _narrow(current.models, values):
        if part in model.model_fields:
            return model.model_fields[part].annotation
    return current.entry


def _narrow(models: tuple[type[Section], ...], values: object) -> tuple[type[Section], ...]:
    name = values.get("name") if isinstance(values, dict) else None
    chosen = names(models).get(name) if len(models) > 1 and isinstance(name, str) else None
    return (chosen,) if chosen else models
