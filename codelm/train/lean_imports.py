"""Packages that Composer imports wherever they are installed, for parts of it that are not used here, stay out.

`composer.models.huggingface` imports peft, which costs a quarter of all that `import composer` does; adapters are made
by `codelm.train.adapters`, which imports it when a run has some. `composer.loggers.mosaicml_logger` imports mcli, the
client of a platform, with all that it needs to talk to it.
"""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_KEPT_OUT = {
    "composer.models.huggingface": ("peft", None),
    # Composer does without peft, but not without this name.
    "composer.loggers.mosaicml_logger": ("mcli", ModuleType("mcli")),
}


class _Without(Loader):
    """Executes a module as another loader does, while a package cannot be imported or is an empty one."""

    def __init__(self, loader: Loader, package: str, instead: ModuleType | None) -> None:
        self.loader, self.package, self.instead = loader, package, instead

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self.package in sys.modules:
            self.loader.exec_module(module)
            return
        sys.modules[self.package] = self.instead  # pyright: ignore[reportArgumentType]
        try:
            self.loader.exec_module(module)
        finally:
            del sys.modules[self.package]


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _KEPT_OUT:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Without(spec.loader, *_KEPT_OUT[fullname])
        return spec


def install() -> None:
    """Take effect for the first import of each module; calling it again does nothing."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
