"""How much of its repository a document shows: a comment with a file's path, or all files of a repository together.

With a tokenizer that has the pieces, a repository is laid out as StarCoder2 read it (arXiv 2402.19173):

    <repo_name>NAME<file_sep>PATH
    TEXT<file_sep>PATH
    TEXT … <|endoftext|>

With another one, each file begins with a comment that holds its path instead.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codelm.config.data import ContextSection
from codelm.data.packing.dependencies import in_dependency_order
from codelm.languages import LANGUAGES
from codelm.tokenizer import Tokenizer

_CLOSING = {"<!--": " -->", "/*": " */", "..": "\n"}
"""What ends a comment before the line does; after one in reStructuredText an empty line must follow."""

_FIRST_LINES = {
    "markdown": r"---\n(?:.*\n)*?---\n",
    "php": r"<\?php(?!.*\?>).*\n",
    "html": r"<\?xml .*\n|<!doctype .*\n",
    "python": r"(?:#!.*\n)?(?:#.*coding[:=].*\n)?",
}
"""What must stay at the top of a file. Elsewhere: the line that names an interpreter."""

_POSITION = re.compile(r"(?:/|\w+:).*#\d+", re.DOTALL)
"""A row without a path is recorded by its place in a file of rows: where that file lies is nothing to learn."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a repository, and the name of its language."""

    path: str
    language: str
    text: str
    digest: str
    """Of its contents, in hexadecimal."""


def path_comment(path: str, language: str, text: str) -> str:
    """The text with a comment line that holds its path, at the top or after the lines that must be there.

    A path that would end the comment early, or holds control characters, gets none; nor does the place of a row.
    """
    path = known_path(path)
    start = LANGUAGES[language].comment if language in LANGUAGES else "#"
    pattern = re.compile(_FIRST_LINES.get(language, r"#!.*\n"), re.IGNORECASE)
    match = pattern.match(text)
    first = match.end() if match else 0
    if language == "php" and not first:
        start = "<!--"  # text before `<?php` is HTML
    end = _CLOSING.get(start, "")
    if not path or not path.isprintable() or (end.strip() and end.strip() in path) or "?>" in path:
        return text
    return f"{text[:first]}{start} {path}{end}\n{text[first:]}"


def known_path(path: str) -> str:
    """The path as the model may see it: that of a row without one is empty."""
    return "" if _POSITION.fullmatch(path) else path


def takes_comment(digest: str, share: float, seed: int) -> bool:
    """Whether a file is of the share that gets a comment: decided by its contents."""
    return _number(f"path_comment {seed} {digest}") < share * 2.0**64


def in_order(files: Sequence[SourceFile], section: ContextSection, seed: int) -> list[int]:
    """The files of a repository as they follow one another: numbers of `files`."""
    by_path = sorted(range(len(files)), key=lambda number: (files[number].path, number))
    if section.order == "path":
        return by_path
    if section.order == "random":
        names = [f"{known_path(file.path)} {file.digest}" for file in files]
        return sorted(by_path, key=lambda number: _number(f"order {seed} {names[number]}"))
    ordered = in_dependency_order([(files[i].path, files[i].language, files[i].text) for i in by_path])
    return [by_path[number] for number in ordered]


def encode_repository(tokenizer: Tokenizer, name: str, files: Sequence[SourceFile]) -> Iterator[list[int]]:
    """The ids of each file in the repository's document; the last one's end with the end-of-text token."""
    special = tokenizer.special_ids
    pieces = "repo_name" in special and "file_sep" in special
    for number, file in enumerate(files):
        ids: list[int] = []
        if pieces:
            if number == 0:
                ids = [special["repo_name"], *tokenizer.encode(_unicode(name))]
            ids.append(special["file_sep"])
            ids += tokenizer.encode(f"{_unicode(known_path(file.path))}\n{file.text}")
        else:
            text = path_comment(file.path, file.language, file.text)
            last = number == len(files) - 1
            # The next file's comment begins on a line of its own.
            ids = tokenizer.encode(text if last or text.endswith("\n") else text + "\n")
        if number == len(files) - 1:
            ids.append(tokenizer.eos_id)
        yield ids


def _unicode(name: str) -> str:
    """A name without the surrogates that stand for bytes which are not UTF-8."""
    return name.encode(errors="replace").decode()


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
