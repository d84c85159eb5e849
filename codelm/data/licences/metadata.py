"""The licence that a package's metadata names: npm, Cargo, Python, Ruby, PHP, R, Maven and Debian."""

import json
import re
import tomllib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from codelm.spdx.expressions import combine, parse_licence

_MAX = 400_000
"""Characters of metadata that are read."""


def is_metadata_file(path: str) -> bool:
    """Whether a path is that of a package's metadata."""
    return _reader(path) is not None


def licence_in_metadata(path: str, text: str) -> str | None:
    """The licence that a package's metadata names, or None; damaged metadata names none."""
    reader = _reader(path)
    try:
        return reader(text[:_MAX]) if reader else None
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None


def _reader(path: str) -> Callable[[str], str | None] | None:
    pure = PurePosixPath(path)
    name = pure.name.lower()
    if name == "copyright":
        return _debian if pure.parent.name == "debian" else None
    if name == "metadata":
        return _headers if pure.parent.name.endswith(".dist-info") else None
    if pure.suffix.lower() == ".gemspec":
        return _gemspec
    return _READERS.get(name)


def _json(text: str) -> str | None:
    fields = json.loads(text)
    licence = fields.get("license", fields.get("licenses"))
    entries = licence if isinstance(licence, list) else [licence]
    names = [entry.get("type") or entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    return _any_of(names)


def _cargo(text: str) -> str | None:
    package = tomllib.loads(text).get("package") or tomllib.loads(text)["workspace"]["package"]
    return _any_of([package.get("license")])


def _pyproject(text: str) -> str | None:
    fields = tomllib.loads(text)
    project = fields.get("project") or fields.get("tool", {}).get("poetry") or {}
    licence = project.get("license")
    named = _any_of([licence.get("text") if isinstance(licence, dict) else licence])
    return named or _classified(project.get("classifiers", []))


def _headers(text: str) -> str | None:
    """PKG-INFO and METADATA of Python's packages."""
    fields = text.split("\n\n")[0]
    for key in ("License-Expression", "License"):
        if (match := re.search(rf"^{key}: (.+)$", fields, re.MULTILINE)) and (named := parse_licence(match[1])):
            return named
    return _classified(re.findall(r"^Classifier: (.+)$", fields, re.MULTILINE))


def _setup_cfg(text: str) -> str | None:
    match = re.search(r"^licen[cs]e\s*=[ \t]*(.+)$", text, re.MULTILINE)
    named = parse_licence(match[1]) if match else None
    return named or _classified(re.findall(r"^\s*(License :: .+)$", text, re.MULTILINE))


def _gemspec(text: str) -> str | None:
    match = re.search(r"\.licen[cs]es?\s*=\s*(.+)$", text, re.MULTILINE)
    return _any_of(re.findall(r"['\"]([^'\"]+)['\"]", match[1])) if match else None


def _description(text: str) -> str | None:
    """DESCRIPTION of R's packages; a continued line begins with white space."""
    match = re.search(r"^License:[ \t]*(.+(?:\n[ \t]+.+)*)", text, re.MULTILINE)
    return parse_licence(match[1]) if match else None


def _maven(text: str) -> str | None:
    match = re.search(r"<licenses>(.*?)</licenses>", text, re.DOTALL)
    return _any_of(re.findall(r"<name>\s*([^<]+?)\s*</name>", match[1])) if match else None


def _debian(text: str) -> str | None:
    """The machine-readable form: the licence of `Files: *`."""
    for paragraph in re.split(r"\n\s*\n", text):
        if re.search(r"^Files:\s*\*\s*$", paragraph, re.MULTILINE):
            match = re.search(r"^License:[ \t]*(.+)$", paragraph, re.MULTILINE)
            return parse_licence(match[1]) if match else None
    return None


def _any_of(names: list[Any]) -> str | None:
    """A choice between names, when all are known."""
    known = [parse_licence(name) if isinstance(name, str) else None for name in names]
    return combine([name for name in known if name], "OR") if all(known) else None


def _classified(classifiers: list[str]) -> str | None:
    """PyPI's classifiers; they do not say whether several are a choice, so all apply."""
    names = [parse_licence(text) for text in classifiers if text.startswith("License :: ")]
    return combine(filter(None, names), "AND")


_READERS = {
    "package.json": _json,
    "composer.json": _json,
    "bower.json": _json,
    "cargo.toml": _cargo,
    "pyproject.toml": _pyproject,
    "setup.cfg": _setup_cfg,
    "pkg-info": _headers,
    "description": _description,
    "pom.xml": _maven,
}
