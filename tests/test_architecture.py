"""The house as docs/architecture.md draws it: imports go down the floors, there are no circles, importing is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "errors": 0,
    "console": 0,
    "files": 0,
    "html": 0,
    "interruption": 0,
    "languages": 0,
    "spdx": 0,
    "startup": 0,
    "tokenizer": 1,
    "tokenizer_base": 1,
    "tokenizer_json": 1,
    "tokenizer_training": 1,
    "config": 1,
    "model": 1,
    "data": 2,
    "eval": 3,
    "train": 4,
    "export": 4,
}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in (ROOT / "codelm").rglob("*.py")
}


def imports(path: Path, top_level_only: bool = False) -> set[str]:
    """The codelm modules that a file imports."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "codelm":
            found |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "codelm"}
    return found


def room(module: str) -> str | None:
    return module.split(".")[1] if "." in module else None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down_the_floors(module: str) -> None:
    here = room(module)
    if here is None:
        return
    for imported in imports(MODULES[module]):
        there = room(imported)
        allowed = there is None or there == here or FLOORS[there] < FLOORS[here] or FLOORS[here] == FLOORS[there] < 2
        assert allowed, f"{module} imports {imported}"


def test_modules_do_not_import_each_other_in_circles() -> None:
    graph = {module: imports(path) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for imported in graph.get(module, ()):
                # A package's __init__ may gather its own modules.
                if not module.startswith(f"{imported}."):
                    visit(imported, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    "module",
    [
        "codelm",
        "codelm.config.cli",
        "codelm.tokenizer",
        "codelm.data.prepare",
        "codelm.data.shards",
        "codelm.data.reading.mixture",
        "codelm.data.reading.order",
        "codelm.data.reading.remote",
        "codelm.eval.background",
        "codelm.eval.compare.story",
        "codelm.eval.judge.pool",
        "codelm.eval.memorisation.report",
        "codelm.eval.repository.build",
        "codelm.eval.repository.judge",
        "codelm.eval.sandbox.confine",
    ],
)
def test_light_rooms_import_no_torch(module: str) -> None:
    script = f"import sys, {module}; print([m for m in ('torch', 'transformers', 'composer') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_only_the_train_room_imports_composer() -> None:
    for module, path in MODULES.items():
        if room(module) != "train":
            names = {
                name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
            }
            assert "composer" not in names, module
