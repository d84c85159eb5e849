"""What of the rest of the repository helps with a function: what its file imports, its neighbours, similar code.

Test code is never shown, since it states what a function answers; nor is code that resembles the masked text.
"""

import ast
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from codelm.eval.repository.candidates import Function, FunctionNode, Source, first_line
from codelm.eval.repository.copy import is_test_path

_WINDOW, _STRIDE = 20, 10
_QUERY = 20
_MOST_WINDOWS = 50_000
_MOST_CHARACTERS = {"import": 2000, "sibling": 1500, "retrieved": 2500}
_SHINGLE = 4
_TOO_SIMILAR = 0.3
_WORD = re.compile(r"[A-Za-z_]\w*")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class Snippet:
    """Lines of another file: `why` is import, sibling or retrieved."""

    why: str
    path: str
    first: int
    last: int
    text: str

    def overlaps(self, other: "Snippet") -> bool:
        """Whether both show a line."""
        return self.path == other.path and self.first <= other.last and other.first <= self.last

    def to_dict(self) -> dict[str, Any]:
        """For the manifest."""
        return asdict(self)


class Library:
    """The files of a repository, indexed for looking up what belongs to a function.

    Args:
        roots: folders from which packages are imported (see `Repository.import_roots`).
    """

    def __init__(self, sources: Sequence[Source], roots: Sequence[str]):
        self.sources = {source.path: source for source in sources if not is_test_path(source.path)}
        self.modules = {name: path for path in self.sources for name in _module_names(path, roots)}
        self.windows: dict[str, list[tuple[int, int, frozenset[str]]]] = {}
        self.owners: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        count = 0
        for source in self.sources.values():
            windows = []
            for first in range(1, max(2, len(source.lines) - _STRIDE + 1), _STRIDE):
                last = min(first + _WINDOW - 1, len(source.lines))
                words = frozenset(_WORD.findall(source.between(first, last)))
                windows.append((first, last, words))
                if count < _MOST_WINDOWS:
                    for word in words:
                        self.owners[word].append((source.path, len(windows) - 1))
                count += 1
            self.windows[source.path] = windows

    def context(self, function: Function) -> list[Snippet]:
        """Snippets from other files, the most telling first in each kind."""
        masked = _shingles(function.source.between(function.first, function.last))
        found: list[Snippet] = []
        for snippets in (self._imported(function), self._siblings(function), self._retrieved(function)):
            room: int | None = None
            for snippet in snippets:
                room = _MOST_CHARACTERS[snippet.why] if room is None else room
                shingles = _shingles(snippet.text)
                similar = len(masked & shingles) > _TOO_SIMILAR * len(masked) if masked else False
                if len(snippet.text) <= room and not similar and not any(map(snippet.overlaps, found)):
                    room -= len(snippet.text)
                    found.append(snippet)
        return found

    def _imported(self, function: Function) -> Iterator[Snippet]:
        """The heads of what the file imports of the repository, those named near the gap first."""
        named = _named_above(function)
        heads = [
            (named.get(name, len(function.source.lines)), head)
            for name, path, attribute in self._imports(function, named)
            for head in self._heads(self.sources[path], "import", attribute)
        ]
        yield from (head for _, head in sorted(heads, key=lambda pair: pair[0]))

    def _imports(self, function: Function, named: Iterable[str]) -> Iterator[tuple[str, str, str]]:
        """What the file calls things of the repository: its name for one, the file that defines it, the name there.

        Of a module that is imported as a whole they are those that are named above the gap: others may be the answer.
        """
        modules: dict[str, str] = {}
        for node in _import_statements(function.source):
            if function.first <= node.lineno <= function.last:
                continue
            package = _absolute(node, function.source.path, self.modules) if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                name = alias.asname or alias.name
                if package in self.modules:
                    yield name, self.modules[package], alias.name
                module = f"{package}.{alias.name}" if package else alias.name
                if module in self.modules:
                    modules[name] = self.modules[module]
        for dotted in named:
            name, _, attribute = dotted.rpartition(".")
            if name in modules:
                yield dotted, modules[name], attribute

    def _siblings(self, function: Function) -> Iterator[Snippet]:
        """The heads of what the other files of its folder define, those with the most words in common first."""
        folder = os.path.dirname(function.source.path)
        words = set(_WORD.findall(function.source.between(function.head, function.first - 1)))
        heads = [
            head
            for path, source in self.sources.items()
            if os.path.dirname(path) == folder and path != function.source.path
            for head in self._heads(source, "sibling")
        ]
        common = [(len(words.intersection(_WORD.findall(head.text))), head) for head in heads]
        ranked = sorted(common, key=lambda pair: (-pair[0], pair[1].path, pair[1].first))
        yield from (head for count, head in ranked if count > 1)

    def _retrieved(self, function: Function) -> Iterator[Snippet]:
        """Windows of other files by the Jaccard similarity of their words to the lines before the mask (RepoCoder)."""
        first = max(1, function.first - _QUERY)
        query = set(_WORD.findall(function.source.between(first, function.first - 1)))
        near = {owner for word in query for owner in self._rare(word)}
        scored = []
        for path, place in near:
            if path != function.source.path:
                first, last, words = self.windows[path][place]
                scored.append((len(query & words) / len(query | words), path, first, last))
        for _, path, first, last in sorted(scored, key=lambda score: (-score[0], *score[1:]))[:10]:
            yield Snippet("retrieved", path, first, last, self.sources[path].between(first, last))

    def _rare(self, word: str) -> list[tuple[str, int]]:
        owners = self.owners.get(word, [])
        return owners if len(owners) <= 200 else []

    def _heads(self, source: Source, why: str, name: str | None = None) -> Iterator[Snippet]:
        for node in source.tree.body:
            if isinstance(node, FunctionNode | ast.ClassDef) and name in (None, node.name):
                first, last = first_line(node), _head_end(node)
                yield Snippet(why, source.path, first, last, source.between(first, last))


def _head_end(node: FunctionNode | ast.ClassDef) -> int:
    """The last line of a definition's head, with a docstring if it has one."""
    first = node.body[0]
    documented = ast.get_docstring(node, clean=False) is not None
    return max(node.lineno, (first.end_lineno or first.lineno) if documented else first_line(first) - 1)


def _import_statements(source: Source) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in ast.walk(source.tree) if isinstance(node, ast.Import | ast.ImportFrom)]


def _named_above(function: Function) -> dict[str, int]:
    """The names and dotted names above the gap, imports apart, and how many lines above it each stands last."""
    imports = {
        line
        for node in _import_statements(function.source)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    named: dict[str, int] = {}
    for line in range(1, function.first):
        for dotted in _DOTTED.findall(function.source.lines[line - 1]) if line not in imports else ():
            parts = dotted.split(".")
            for count in range(1, len(parts) + 1):
                named[".".join(parts[:count])] = function.first - line
    return named


def _module_names(path: str, roots: Sequence[str]) -> Iterator[str]:
    for root in roots:
        below = path[len(root) + 1 :] if root and path.startswith(f"{root}/") else "" if root else path
        if below:
            yield below.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _absolute(node: ast.ImportFrom, path: str, modules: dict[str, str]) -> str:
    if not node.level:
        return node.module or ""
    own = next((name for name, place in modules.items() if place == path), "")
    parts = own.split(".") if path.endswith("__init__.py") else own.split(".")[:-1]
    parts = parts[: len(parts) - node.level + 1]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text)
    return {tuple(words[place : place + _SHINGLE]) for place in range(len(words) - _SHINGLE + 1)}


def commented(snippets: Sequence[Snippet]) -> str:
    """Snippets as comments that may stand above a file: the least telling first, so that the best is nearest."""
    blocks = []
    for snippet in reversed(snippets):
        lines = "".join(f"# {line}".rstrip() + "\n" for line in snippet.text.rstrip("\n").split("\n"))
        blocks.append(f"# {snippet.path}\n{lines}")
    return "".join(f"{block}\n" for block in blocks)
