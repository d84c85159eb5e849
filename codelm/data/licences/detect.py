"""The licence of a file: what its first comment says, else the licence of its repository; and which are kept.

Licences are SPDX expressions. None means that nothing was said. Texts are judged by `texts`, names by
`codelm.spdx`; this is no legal advice, and a wrong header is believed.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import PurePosixPath

from codelm.config.cleaning import LicencesSection
from codelm.data.licences.metadata import is_metadata_file, licence_in_metadata
from codelm.data.licences.texts import licences_in, normalise, own_part, reservation_in
from codelm.languages import language_of
from codelm.spdx.expressions import combine, is_met, parse_licence
from codelm.spdx.ids import ALL_RIGHTS_RESERVED, PERMISSIVE

_HEAD = 8192
"""Characters in which a header must begin and end."""
_MAX_LICENCE_FILE = 400_000
"""Characters of a licence file that are read."""
_MAX_CHOICE = 3
"""Files such as LICENSE-MIT and LICENSE-APACHE that are a choice at most; more are a list of what is bundled."""

# What may stand before and between the comments at the head of a file in any of the 20 languages.
_HEADER = re.compile(
    r"""(?:\s+ | /\*.*?(?:\*/|\Z) | //[^\n]* | \#[^\n]* | <!--.*?(?:-->|\Z) | --[^\n]* | ;[^\n]* | %[^\n]*
    | [rRuU]?\"{3}.*?(?:\"{3}|\Z) | [rRuU]?'{3}.*?(?:'{3}|\Z) | \(\*.*?(?:\*\)|\Z) | \{-.*?(?:-\}|\Z) | dnl\b[^\n]*
    | ^=begin.*?(?:^=end[^\n]*|\Z) | <\?(?:php|xml[^>]*\?>)? | \?> | <!DOCTYPE[^>]*> | @charset[^\n]*
    | ['"]use\ strict['"];? | ^\.\.(?=\s)[^\n]*(?:\n[ \t]+[^\n]*|\n(?=\n*[ \t]))*
    | ^(?:package|namespace)\ [\w.\\]+;? | ^import\ [\w.*]+;?$)*+""",
    re.VERBOSE | re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
_TAG = re.compile(r"SPDX-License-Identifier:[ \t]*([^\n\r]*)", re.IGNORECASE)
_TAG_END = re.compile(r"\s*(?:\*+/|-->|#\}|\*\)|-\}|['\"`}].*|\s#.*|<.*)\s*$")
_PYTHON_NAME = re.compile(r"""^__licen[cs]e__\s*=\s*['"]([^'"\n]+)['"]""", re.MULTILINE)
_WORDS_OF_LICENCES = (
    "licen", "permi", "redistrib", "public", "reserved", "proprietary", "confidential", "gpl", "creative", "perl",
)  # fmt: skip

_CODE = re.compile(r"\.(?:py|js|ts|java|go|rs|c|h|cc|cpp|rb|php|json|toml|yml|yaml|xml|css|sh)$")
_MAIN = re.compile(r"(?:un)?licen[cs]e|copying(?:[._-]lesser|[._-]lib)?|copyright")
_WITH_NAME = re.compile(
    r"(?:licen[cs]es?|copying|copyright)[._-].+|.+[._-](?:licen[cs]e|copying)|(?:[al]?gpl|mit|bsd|apache|mpl)[-\d.]*"
)
_THIRD_PARTY = re.compile(r"third|3rd|vendor|bundle|depend|notice|header|template")
_FOLDERS = frozenset({"licenses", "licences", "license", "licence"})
_TEXT_ENDINGS = re.compile(r"\.(?:txt|md|rst|html|markdown|adoc|text|asc)$")


def header_of(text: str) -> str:
    """What stands at a file's head before its first code: comments, docstring, declarations such as `<?php`."""
    match = _HEADER.match(text)
    return match[0] if match else ""


def header_licence(text: str) -> str | None:
    """The licence that a file's first comments state, or None.

    SPDX tags go first, then notices and whole texts. A header that grants nothing gives a marker:
    `LicenseRef-proprietary`, or `LicenseRef-all-rights-reserved` when that formula is all it says.
    """
    head = text[:_HEAD]
    if "SPDX-" in head and (tagged := _tagged(head)):
        return tagged
    header = header_of(head)
    if _speaks_of_licences(header.lower()) and (stated := _stated(header)):
        return stated
    if "__licen" in head and (named := _PYTHON_NAME.search(head)):
        return parse_licence(named[1])
    return None


def file_licence(text: str, repository: str | None) -> str | None:
    """The licence of a file: its header's, else the one that governs its folder (`governing_licence`)."""
    own = header_licence(text)
    return repository or own if own in (None, ALL_RIGHTS_RESERVED) else own


def is_licence_file(path: str) -> bool:
    """Whether `repository_licence` wants to read the file at a path inside the repository."""
    return is_metadata_file(path) or is_licence_text(path)


def repository_licence(files: Mapping[str, str]) -> str | None:
    """The licence at the root of a repository, from the texts of its licence files by path."""
    return licences_by_folder(files).get("")


def licences_by_folder(files: Mapping[str, str]) -> dict[str, str]:
    """The licence of every folder that has one of its own, from the texts of licence files by path; the root is "".

    A folder's licence files go before its `licenses` folder, and that before the metadata of packages; but metadata
    that names the same licences and more is believed. Several texts must all be followed, while `LICENSE-MIT` beside
    `LICENSE-APACHE` is a choice.
    """
    texts: dict[str, dict[str, str]] = {}
    of_folder: dict[str, dict[str, str]] = {}
    metadata: dict[str, list[str]] = {}
    for path in sorted(files):
        pure = PurePosixPath(path)
        folder = _name(pure.parent)
        if is_metadata_file(path):
            if stated := licence_in_metadata(path, files[path]):
                governed = _name(pure.parent.parent) if pure.parent.name == "debian" else folder
                metadata.setdefault(governed, []).append(stated)
        elif pure.parent.name.lower() in _FOLDERS:
            of_folder.setdefault(_name(pure.parent.parent), {})[pure.name] = files[path]
        elif is_licence_text(path):
            texts.setdefault(folder, {})[pure.name] = files[path]
    found: dict[str, str] = {}
    for folder in sorted({*texts, *of_folder, *metadata}):
        named = combine(metadata.get(folder, [])[:1], "AND")
        stated = _of_texts(texts.get(folder, {}), "OR") or _of_texts(of_folder.get(folder, {}), "AND")
        if licence := _refined(stated, named):
            found[folder] = licence
    return found


def governing_licence(path: str, folders: Mapping[str, str]) -> str | None:
    """The licence of the deepest folder above a path that has one in `licences_by_folder`."""
    return next((folders[name] for parent in PurePosixPath(path).parents if (name := _name(parent)) in folders), None)


def is_kept(licence: str | None, section: LicencesSection) -> bool:
    """Whether files under a licence are kept.

    Of an `OR` one licence must be kept, of an `AND` all; an exception (`WITH`) only adds permissions. What is no
    expression counts as unknown.
    """
    if section.keep == "all":
        return True
    accepted = _accepted("permissive" if section.keep == "permissive" else tuple(section.keep))
    met = None if licence is None else is_met(licence, lambda id: _is_accepted(id, accepted))
    return section.unknown == "keep" if met is None else met


@lru_cache(maxsize=64)
def _accepted(keep: str | tuple[str, ...]) -> frozenset[str]:
    return PERMISSIVE if isinstance(keep, str) else frozenset(parse_licence(id) or id for id in keep)


def _is_accepted(id: str, accepted: frozenset[str]) -> bool:
    if id in accepted or id.removesuffix("+") in accepted:
        return True
    return id.endswith("-or-later") and f"{id.removesuffix('-or-later')}-only" in accepted


def _tagged(head: str) -> str | None:
    tags = [parse_licence(_TAG_END.sub("", match[1])) for match in _TAG.finditer(head)]
    return combine(filter(None, tags), "AND")


def _speaks_of_licences(header: str) -> bool:
    return any(word in header for word in _WORDS_OF_LICENCES)


# Files of one repository mostly begin alike.
@lru_cache(maxsize=4096)
def _stated(header: str) -> str | None:
    words = normalise(header)
    return licences_in(words) or reservation_in(words)


def _name(folder: PurePosixPath) -> str:
    return "" if str(folder) == "." else str(folder)


def is_licence_text(path: str) -> bool:
    """Whether a file holds the text of a licence, by its name or its folder's."""
    pure = PurePosixPath(path)
    name = pure.name.lower()
    language = language_of(path)
    if _CODE.search(name) or (language is not None and not _TEXT_ENDINGS.search(name)):
        return False
    stem = _TEXT_ENDINGS.sub("", name)
    return bool(
        pure.parent.name.lower() in _FOLDERS
        or ((_MAIN.fullmatch(stem) or _WITH_NAME.fullmatch(stem)) and not _THIRD_PARTY.search(stem))
    )


def _of_texts(files: Mapping[str, str], operator: str) -> str | None:
    """The licence of a folder's licence files by name; `operator` joins those that are named after a licence."""
    main: list[str] = []
    choices: list[str] = []
    for name in sorted(files):
        stem = _TEXT_ENDINGS.sub("", name.lower())
        words = own_part(normalise(files[name][:_MAX_LICENCE_FILE]))
        licence = licences_in(words) or parse_licence(files[name]) or reservation_in(words)
        if licence:
            (main if _MAIN.fullmatch(stem) else choices).append(licence)
    if len(choices) > 1 and all(" OR " in licence for licence in main):
        main = []
    if any(licence.startswith("LGPL") for licence in main):
        main = [licence for licence in main if not licence.startswith("GPL")]
    return combine(main, "AND") or combine(choices, operator if len(choices) <= _MAX_CHOICE else "AND")


def _refined(stated: str | None, named: str | None) -> str | None:
    """What texts state, or what metadata names when that says more.

    A licence's text cannot say whether later versions are allowed, nor several texts whether they are a choice.
    """
    if not stated or not named:
        return stated or named
    texts, names = _identifiers(stated), _identifiers(named)
    says_more = texts <= names or {id.replace("-only", "-or-later") for id in texts} <= names
    return named if says_more else stated


def _identifiers(expression: str) -> set[str]:
    return set(re.split(r" (?:AND|OR) ", re.sub(r"[()]", "", expression)))
