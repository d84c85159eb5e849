"""Files in the order in which they build on one another: what is imported comes before what imports it.

Imports are found by regular expressions, not by parsers: good enough to order files by, and fast. Only imports of
files that are there count; those of libraries name none and are ignored.
"""

import heapq
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from posixpath import dirname, join, normpath, splitext

File = tuple[str, str, str]
"""Path inside the repository, language, text."""


def in_dependency_order(files: Sequence[File]) -> list[int]:
    """The numbers of `files`, each after those that it imports, circles excepted.

    Of the files that are free to go the first in the given order goes first. Of files that import one another in a
    circle, the one with the fewest imports still to come goes first, and of those the first in the given order.
    """
    waits_for = import_graph(files)
    importers: list[list[int]] = [[] for _ in files]
    for number, imports in enumerate(waits_for):
        for imported in imports:
            importers[imported].append(number)
    circle_of = _circles(waits_for)
    members: dict[int, list[int]] = defaultdict(list)
    outside: dict[int, int] = defaultdict(int)  # imports still to come of a circle's files from outside it
    for number, imports in enumerate(waits_for):
        members[circle_of[number]].append(number)
        outside[circle_of[number]] += sum(circle_of[imported] != circle_of[number] for imported in imports)
    queue = [
        (len(waits_for[number]), number) for circle in members for number in members[circle] if not outside[circle]
    ]
    heapq.heapify(queue)
    order: dict[int, None] = {}
    while queue:
        still_open, number = heapq.heappop(queue)
        if number in order or still_open != len(waits_for[number]):
            continue  # an entry from before one of its imports was placed
        order[number] = None
        for importer in importers[number]:
            waits_for[importer].discard(number)
            circle = circle_of[importer]
            if circle == circle_of[number]:
                heapq.heappush(queue, (len(waits_for[importer]), importer))
                continue
            outside[circle] -= 1
            if not outside[circle]:
                for member in members[circle]:
                    heapq.heappush(queue, (len(waits_for[member]), member))
    return list(order)


def _circles(graph: list[set[int]]) -> list[int]:
    """For each file the number of its circle: files have the same when each imports the other, directly or not.

    Strongly connected components by Tarjan's algorithm (1972), without recursion: a chain of imports may be long.
    """
    found, low = [-1] * len(graph), [0] * len(graph)
    circle_of = [-1] * len(graph)
    stack: list[int] = []
    visited = circles = 0
    for root in range(len(graph)):
        if found[root] >= 0:
            continue
        trail = [(root, iter(sorted(graph[root])))]
        found[root] = low[root] = visited
        visited += 1
        stack.append(root)
        while trail:
            number, imports = trail[-1]
            imported = next(imports, None)
            if imported is None:
                trail.pop()
                if trail:
                    low[trail[-1][0]] = min(low[trail[-1][0]], low[number])
                if low[number] == found[number]:
                    while circle_of[number] < 0:
                        circle_of[stack.pop()] = circles
                    circles += 1
            elif found[imported] < 0:
                found[imported] = low[imported] = visited
                visited += 1
                stack.append(imported)
                trail.append((imported, iter(sorted(graph[imported]))))
            elif circle_of[imported] < 0:
                low[number] = min(low[number], found[imported])
    return circle_of


def import_graph(files: Sequence[File]) -> list[set[int]]:
    """For each of `files`, the numbers of the others that it imports."""
    tree = _Tree([path for path, _, _ in files])
    graph = []
    for number, (path, language, text) in enumerate(files):
        find = _FINDERS.get(language)
        graph.append({*find(path, text, tree)} - {number} if find else set())
    return graph


class _Tree:
    """The files of a repository, to be found by path, by the end of a path, or by folder."""

    def __init__(self, paths: list[str]) -> None:
        self._paths = paths
        self._number = {path: number for number, path in reversed(list(enumerate(paths)))}
        self._by_name: dict[str, list[int]] = defaultdict(list)
        self._by_folder: dict[str, list[int]] = defaultdict(list)
        for number, path in enumerate(paths):
            self._by_name[path.rpartition("/")[2]].append(number)
            self._by_folder[dirname(path)].append(number)

    def first(self, candidates: list[str]) -> list[int]:
        """The first of the paths that is there."""
        found = (self._number[path] for path in map(normpath, candidates) if path in self._number)
        return [*found][:1]

    def ending(self, end: str, importer: str) -> list[int]:
        """The file whose path ends so; of several, the one with the most folders in common with the importer, and then
        the one nearest to the root."""
        matches = [
            number
            for number in self._by_name.get(end.rpartition("/")[2], [])
            if self._paths[number] == end or self._paths[number].endswith(f"/{end}")
        ]

        def nearness(number: int) -> tuple[int, int, int]:
            path = self._paths[number]
            return (_shared(path, importer), -path.count("/"), -number)

        return [max(matches, key=nearness)] if matches else []

    def inside(self, folder: str) -> list[int]:
        return self._by_folder.get(folder, [])


def _shared(path: str, other: str) -> int:
    """How many leading folders two paths have in common."""
    shared = 0
    for one, two in zip(path.split("/")[:-1], other.split("/")[:-1], strict=False):
        if one != two:
            break
        shared += 1
    return shared


_Finder = Callable[[str, str, _Tree], Iterator[int]]

_PYTHON_FROM = re.compile(r"^[ \t]*from[ \t]+([.\w]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]*)", re.MULTILINE)
_PYTHON_IMPORT = re.compile(r"^[ \t]*import[ \t]+([^\n#;]+)", re.MULTILINE)
_FIRST_NAME = re.compile(r"\s*([\w.]+)")


def _python(path: str, text: str, tree: _Tree) -> Iterator[int]:
    for modules in _PYTHON_IMPORT.findall(text):
        for module in map(_FIRST_NAME.match, modules.split(",")):
            if module:
                yield from _python_module(module[1], path, tree)
    for module, names in _PYTHON_FROM.findall(text):
        for name in map(_FIRST_NAME.match, names.strip("()").split(",")):
            inner = f"{module}{'' if module.endswith('.') else '.'}{name[1]}" if name else module
            # What is imported is a module of the package, or else a name that the package or module defines.
            yield from _python_module(inner, path, tree) or _python_module(module, path, tree)


def _python_module(module: str, path: str, tree: _Tree) -> list[int]:
    name = module.lstrip(".")
    relative, levels = name.replace(".", "/"), len(module) - len(name)
    if levels or "." not in name:
        folder = dirname(path)
        # A single name is that of a script beside, or else a library's: inside a package it would need a dot.
        if not levels and tree.first([join(folder, "__init__.py")]):
            return []
        for _ in range(levels - 1):
            folder = dirname(folder)
        base = join(folder, relative)
        return tree.first([f"{base}.py", f"{base}.pyi", join(base, "__init__.py")])
    return tree.ending(f"{relative}.py", path) or tree.ending(f"{relative}/__init__.py", path)


_JAVASCRIPT = re.compile(r"""(?:\bfrom\s*|\bimport\s*\(?\s*|\brequire\s*\(\s*)["'](\.{1,2}(?:/[^"'\n]*)?)["']""")
_ENDINGS = (".ts", ".tsx", ".d.ts", ".js", ".jsx", ".mjs", ".cjs", ".vue")


def _javascript(path: str, text: str, tree: _Tree) -> Iterator[int]:
    for module in _JAVASCRIPT.findall(text):
        base = join(dirname(path), module)
        # TypeScript names the `.js` that a `.ts` will become.
        bases = [base, splitext(base)[0]] if base.endswith((".js", ".jsx", ".mjs")) else [base]
        names = [f"{name}{ending}" for name in bases for ending in _ENDINGS]
        yield from tree.first([base, *names, *(join(base, f"index{ending}") for ending in _ENDINGS)])


_INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|import)[ \t]*"([^"\n]+)"', re.MULTILINE)


def _include(path: str, text: str, tree: _Tree) -> Iterator[int]:
    for name in _INCLUDE.findall(text):
        # A preprocessor looks beside the file first, then in folders that only the build knows.
        yield from tree.first([join(dirname(path), name)]) or tree.ending(re.sub(r"^(\.{1,2}/)+", "", name), path)


_GO = re.compile(r'^import[ \t]+(?:\(([^)]*)\)|[\w.]*[ \t]*"([^"\n]+)")', re.MULTILINE)
_QUOTED = re.compile(r'"([^"\n]+)"')


def _go(path: str, text: str, tree: _Tree) -> Iterator[int]:
    for block, single in _GO.findall(text):
        for package in _QUOTED.findall(block) if block else [single]:
            host, *parts = package.split("/")
            if "." not in host:
                continue  # the standard library
            # The module's own name is in go.mod, which is no source file: the longest end that is a folder is meant.
            ends = ("/".join(parts[first:]) for first in range(len(parts)))
            yield from next((files for end in ends if (files := tree.inside(end))), [])


_JAVA = re.compile(r"^[ \t]*import[ \t]+(static[ \t]+)?([\w.]+?)(?:\.\*)?[ \t]*;", re.MULTILINE)


def _java(path: str, text: str, tree: _Tree) -> Iterator[int]:
    for static, name in _JAVA.findall(text):
        names = [name, name.rpartition(".")[0]] if static else [name]
        yield from next((found for n in names if (found := tree.ending(f"{n.replace('.', '/')}.java", path))), [])


_PHP_USE = re.compile(r"^[ \t]*use[ \t]+(?:function[ \t]+|const[ \t]+)?\\?([\w\\]*\w)(?:\\\{([^}]*)\})?", re.MULTILINE)
_PHP_REQUIRE = re.compile(
    r"""\b(?:require|include)(?:_once)?\b[ \t(]*(?:__DIR__|dirname\(__FILE__\))?[ \t.]*["']/?([^"'\n]+\.php)["']"""
)


def _php(path: str, text: str, tree: _Tree) -> Iterator[int]:
    for name, group in _PHP_USE.findall(text):
        for inner in group.split(",") if group else [""]:
            parts = f"{name}\\{inner.split(' as ')[0].strip()}".strip("\\").split("\\")
            # PSR-4 maps leading parts of a namespace to a folder of any name; the class alone would be too little.
            ends = ("/".join(parts[first:]) + ".php" for first in range(max(1, len(parts) - 1)))
            yield from next((found for end in ends if (found := tree.ending(end, path))), [])
    for name in _PHP_REQUIRE.findall(text):
        yield from tree.first([join(dirname(path), name)]) or tree.ending(name.lstrip("./"), path)


_RUBY = re.compile(r"""^[ \t]*require(_relative)?[ \t(]+["']([^"'\n]+)["']""", re.MULTILINE)


def _ruby(path: str, text: str, tree: _Tree) -> Iterator[int]:
    for relative, name in _RUBY.findall(text):
        file = f"{name.removesuffix('.rb')}.rb"
        if relative:
            yield from tree.first([join(dirname(path), file)])
        elif "/" in file:
            yield from tree.ending(file, path)
        else:
            yield from tree.first([join("lib", file)])


_RUST_MODULE = re.compile(r"^[ \t]*(?:pub(?:\([^)]*\))?[ \t]+)?mod[ \t]+(\w+)[ \t]*;", re.MULTILINE)
_RUST_USE = re.compile(r"\b(crate|super)::(\w+)(?:::(\w+))?")


def _rust(path: str, text: str, tree: _Tree) -> Iterator[int]:
    folder, own = dirname(path), splitext(path)[0]
    # The modules of `mod.rs`, `lib.rs` and `main.rs` are beside the file, those of `x.rs` in the folder `x`.
    is_root = own.rpartition("/")[2] in ("mod", "lib", "main")
    for name in _RUST_MODULE.findall(text):
        base = join(folder if is_root else own, name)
        yield from tree.first([f"{base}.rs", f"{base}/mod.rs"])
    before, source, _ = f"/{path}".rpartition("/src/")
    crate = f"{before}/src".lstrip("/") if source else ""
    for root, name, inner in _RUST_USE.findall(text):
        base = join(crate if root == "crate" else dirname(folder) if is_root else folder, name)
        deeper = [f"{base}/{inner}.rs", f"{base}/{inner}/mod.rs"] if inner else []
        yield from tree.first([*deeper, f"{base}.rs", f"{base}/mod.rs"])


_FINDERS: dict[str, _Finder] = {
    "python": _python,
    "jupyter": _python,
    "javascript": _javascript,
    "typescript": _javascript,
    "jsx": _javascript,
    "vue": _javascript,
    "c": _include,
    "cpp": _include,
    "go": _go,
    "java": _java,
    "php": _php,
    "ruby": _ruby,
    "rust": _rust,
}
