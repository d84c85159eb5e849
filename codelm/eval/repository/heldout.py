"""Files held out of training, in any of the 20 languages, and what of them is to be completed: a line, or a block.

Nothing is run: bits per byte measure the whole files, exact match and edit similarity the completions.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from codelm.data.licences.detect import header_of, is_licence_text
from codelm.data.rules.generated import generated_by
from codelm.data.rules.vendored import generated_by_name, vendored_by
from codelm.data.sources.notebooks import notebook_text
from codelm.eval.repository.copy import Repository, read_text
from codelm.eval.repository.exclusion import unfindable
from codelm.eval.repository.manifest import origin_of
from codelm.languages import LANGUAGES, language_of

_MIN_CHARACTERS, _MAX_CHARACTERS = 200, 200_000
_MAX_LINE = 1000
_LINES, _BLOCKS = 5, 3
_MIN_BLOCK, _MAX_BLOCK = 2, 12
_WORD = re.compile(r"[^\W\d]\w*")
_COMMENTS = ("#", "//", "/*", "*", "--", "<!--", "..")
_PROSE = frozenset({"markdown", "restructuredtext"})


@dataclass(frozen=True)
class HeldOut:
    """A file of the repository that training must not see.

    Attributes:
        items: (kind, first, last): `line` or `block`, and lines from 1, both included; of the text split at "\\n".
    """

    path: str
    language: str
    text: str
    items: tuple[tuple[str, int, int], ...]

    def to_row(self, repository: Repository, benchmark: str) -> dict[str, Any]:
        """A line of the manifest; decontamination looks for `solution`."""
        items = [
            {"id": f"{self.path}:{kind}@{first}", "kind": kind, "first": first, "last": last}
            for kind, first, last in self.items
        ]
        return {
            "benchmark": benchmark,
            "task_id": self.path,
            "row": "file",
            "language": self.language,
            "path": self.path,
            **origin_of(repository),
            "solution": self.text,
            "items": items,
        }


def hold_out(repository: Repository, share: float, most: int, seed: int) -> list[HeldOut]:
    """Draw files of each language by a hash of their paths: a share, at most `most`, at least one unless it is 0.

    Texts of licences, and files of little more than a header, are not drawn: everybody has them. Nor are
    files of which nothing can be told from other code.
    """
    return draw(repository.root, repository.files, share, most, seed, _can_be_found)


def _can_be_found(held: HeldOut) -> bool:
    """Whether training can be kept from a file's text."""
    return not unfindable([{"row": "file", "task_id": held.path, "solution": held.text}])


def draw(
    root: Path,
    files: Iterable[str],
    share: float,
    most: int,
    seed: int,
    accept: Callable[[HeldOut], bool] = lambda _: True,
) -> list[HeldOut]:
    """The same of any folder.

    Args:
        files: paths below the root.
        accept: whether a file may be drawn; else the next one is.
    """
    by_language: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        language = language_of(path)
        if language is not None and not (vendored_by(path) or generated_by_name(path) or is_licence_text(path)):
            by_language[language.name].append(path)
    held = []
    for language in LANGUAGES:
        paths = sorted(by_language[language], key=lambda path: _hash(seed, path))
        wanted = min(most, max(1, round(share * len(paths)))) if share else 0
        held += islice(filter(accept, _readable(root, paths, language, seed)), wanted)
    return held


def _readable(root: Path, paths: list[str], language: str, seed: int) -> Iterator[HeldOut]:
    for path in paths:
        text = read_text(root / path)
        if text is not None and language == "jupyter":
            text = notebook_text(text)
        if text is None or len(text) > _MAX_CHARACTERS or generated_by(text, language):
            continue
        if len(text) - len(header_of(text)) < _MIN_CHARACTERS:
            continue
        if max(map(len, text.split("\n"))) <= _MAX_LINE:
            yield HeldOut(path, language, text, tuple(items_of(path, text, language, seed)))


def items_of(path: str, text: str, language: str, seed: int) -> Iterator[tuple[str, int, int]]:
    """What of a text is to be completed: (kind, first line, last line), drawn by a hash."""
    lines = text.split("\n")
    candidates = [number for number in range(3, len(lines) + 1) if _is_telling(lines[number - 1], language)]
    for number in sorted(sorted(candidates, key=lambda number: _hash(seed, f"{path} line {number}"))[:_LINES]):
        yield "line", number, number
    blocks = [(first, last) for first, last in _blocks(lines, language) if first > 3]
    for first, last in sorted(sorted(blocks, key=lambda block: _hash(seed, f"{path} block {block[0]}"))[:_BLOCKS]):
        yield "block", first, last


def _is_telling(line: str, language: str) -> bool:
    """Whether a line has something to predict: two words, and not a comment."""
    stripped = line.strip()
    comment = language not in _PROSE and stripped.startswith(_COMMENTS)
    return not comment and len(_WORD.findall(stripped)) >= 2


def _blocks(lines: list[str], language: str) -> Iterator[tuple[int, int]]:
    """Lines that are indented deeper than the one before them; in prose, paragraphs behind an empty line."""
    for place in range(1, len(lines)):
        before, line = lines[place - 1], lines[place]
        if not line.strip():
            continue
        if language in _PROSE:
            begins, floor = not before.strip(), None
        else:
            begins, floor = bool(before.strip()) and _indent(line) > _indent(before), _indent(before)
        if not begins:
            continue
        end = place
        while end < len(lines) and end - place <= _MAX_BLOCK:
            if not lines[end].strip():
                if floor is None or not _goes_on(lines, end, floor):
                    break
            elif floor is not None and _indent(lines[end]) <= floor:
                break
            end += 1
        if (
            _MIN_BLOCK <= end - place <= _MAX_BLOCK
            and sum(_is_telling(line, language) for line in lines[place:end]) > 1
        ):
            yield place + 1, end


def _goes_on(lines: list[str], place: int, floor: int) -> bool:
    return any(_indent(line) > floor for line in lines[place : place + 2] if line.strip())


def _indent(line: str) -> int:
    expanded = line.expandtabs(4)
    return len(expanded) - len(expanded.lstrip())


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed} {text}".encode("utf-8", "surrogatepass")).digest()
