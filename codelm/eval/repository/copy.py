"""The throw-away copy of a repository that everything else works on, and what is known of it."""

import contextlib
import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from codelm.data.licences.detect import is_licence_file, repository_licence
from codelm.data.sources.git_objects import SUBMODULE, SYMLINK, is_repository, list_tree, resolve_commit, untracked
from codelm.errors import DataError, EvaluationError
from codelm.eval.repository.guest.tree import copy_file

_LEFT_OUT = frozenset({
    ".git", ".hg", ".svn", ".tox", ".nox", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis",
    ".eggs", "node_modules", ".idea", ".vscode", ".direnv", ".coverage", ".DS_Store",
})  # fmt: skip
_TEST_FOLDERS = frozenset({"test", "tests", "testing", "unittests"})
_MOST_ROOTS = 50
_COMPILE_SECONDS = 300


@dataclass(frozen=True)
class Repository:
    """A copy of a repository.

    Attributes:
        name: the folder's.
        origin: where it was copied from.
        root: the copy.
        commit: of git, or None.
        dirty: the files are not those of the commit.
        licence: an SPDX expression, or None.
        files: paths below the root, sorted.
        sha256: over the paths and contents of all files.
    """

    name: str
    origin: str
    root: Path
    commit: str | None
    licence: str | None
    files: tuple[str, ...]
    sha256: str
    dirty: bool = False

    def python_files(self) -> list[str]:
        """Files of Python source."""
        return [path for path in self.files if path.endswith(".py")]

    def import_roots(self) -> list[str]:
        """Folders from which the repository's packages are imported; the root itself is "" and comes last."""
        packages = {os.path.dirname(path) for path in self.files if os.path.basename(path) == "__init__.py"}
        roots = {os.path.dirname(folder) for folder in packages if os.path.dirname(folder) not in packages}
        roots |= {folder for folder in ("src", "lib", "python") if (self.root / folder).is_dir()}
        roots = {root for root in roots if root and not is_test_path(f"{root}/x.py")}
        return [*sorted(roots)[:_MOST_ROOTS], ""]

    def top_level_names(self) -> set[str]:
        """What `import` calls the repository's packages and modules."""
        roots, names = self.import_roots(), set()
        for path in self.python_files():
            for root in roots:
                below = path[len(root) :].lstrip("/") if not root or path.startswith(f"{root}/") else ""
                name = below.split("/")[0]
                if (
                    name
                    and not is_test_path(path)
                    and (name.endswith(".py") or f"{root}/{name}".lstrip("/") not in roots)
                ):
                    names.add(name.removesuffix(".py"))
        return names - {"setup", "conftest", "docs", "doc", "examples", "scripts", "tools", "benchmarks", "build"}


def is_test_path(path: str) -> bool:
    """Whether a file is test code, by its name or a folder's."""
    *folders, name = path.split("/")
    named = name.startswith("test_") or name.endswith(("_test.py", "_tests.py")) or name in ("conftest.py", "tests.py")
    return named or any(folder.lower() in _TEST_FOLDERS for folder in folders)


def copy_repository(source: str, target: Path, left_out: Path) -> Repository:
    """Copy a repository's working tree: all that is there but version control, environments and caches.

    Built extension modules that lie in the tree come along. Links that lead out of the tree are left out.

    Args:
        left_out: a folder that is no part of it (the benchmark's own, if it lies inside).

    Raises:
        EvaluationError: the folder is absent or holds no files.
    """
    origin = Path(source).expanduser().resolve()
    if not origin.is_dir():
        raise EvaluationError(f"{source} is no folder; give the path of a repository")
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files, digest = [], hashlib.sha256()
    for folder, names, entries in os.walk(origin):
        here = Path(folder)
        names[:] = sorted(name for name in names if not _is_left_out(here / name, left_out))
        for name in sorted([*entries, *(n for n in names if (here / n).is_symlink())]):
            path = here / name
            relative = path.relative_to(origin)
            if name in _LEFT_OUT or name.endswith(".pyc") or not _is_ours(path, origin):
                continue
            place = target / relative
            place.parent.mkdir(parents=True, exist_ok=True)
            copy_file(str(path), str(place))
            digest.update(str(relative).encode("utf-8", "surrogateescape") + b"\0")
            if place.is_file():
                digest.update(hashlib.sha256(place.read_bytes()).digest())
                files.append(relative.as_posix())
    if not files:
        raise EvaluationError(f"{source} holds no files; give the path of a repository")
    texts = {path: text for path in files if is_licence_file(path) and (text := read_text(target / path)) is not None}
    commit = _commit(origin)
    return Repository(
        name=origin.name,
        origin=str(origin),
        root=target,
        commit=commit,
        licence=repository_licence(texts),
        files=tuple(sorted(files)),
        sha256=digest.hexdigest(),
        dirty=commit is not None and _is_dirty(origin, commit, target, files),
    )


def _is_left_out(folder: Path, output: Path) -> bool:
    if folder.name in _LEFT_OUT or folder == output or folder.is_symlink():
        return True
    return (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir()


def _is_ours(path: Path, origin: Path) -> bool:
    try:
        kind = path.lstat().st_mode
        if stat.S_ISLNK(kind):
            return path.resolve().is_relative_to(origin) and not os.path.isabs(os.readlink(path))
    except (OSError, RuntimeError):
        return False
    return stat.S_ISREG(kind)


def _commit(origin: Path) -> str | None:
    try:
        return resolve_commit(str(origin), "HEAD") if is_repository(origin) else None
    except DataError:
        return None


def _is_dirty(origin: Path, commit: str, copy: Path, files: list[str]) -> bool:
    """Whether the copied files are others than the commit's; ignored ones, such as built extensions, do not count.

    Git is not asked for its status: that runs the programs (filters, monitors) which a repository's settings name.
    """
    committed = {
        entry.file.path: entry.file.object_id
        for entry in list_tree(str(origin), commit)
        if entry.mode not in (SYMLINK, SUBMODULE)
    }
    if any(not os.path.lexists(origin / path) for path in committed) or untracked(str(origin)):
        return True
    return any(_is_changed(copy / path, committed[path]) for path in files if path in committed)


def _is_changed(file: Path, object_id: str | None) -> bool:
    data = file.read_bytes()
    # On Windows, line ends are converted as files are checked out.
    return all(_object_id(text, object_id or "") != object_id for text in (data, data.replace(b"\r\n", b"\n")))


def _object_id(data: bytes, like: str) -> str:
    algorithm = hashlib.sha256 if len(like) == 64 else hashlib.sha1
    return algorithm(b"blob %d\0" % len(data) + data).hexdigest()


def read_text(path: Path) -> str | None:
    """A file's text to the character, or None when it is not UTF-8 or cannot be read."""
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def compile_files(root: Path, python: str) -> None:
    """Lay down what the interpreter compiles of every file, so that no run has to; files that do not compile are left.

    Nothing is imported. A repository too large for `_COMPILE_SECONDS` stays partly uncompiled, which costs time only.
    """
    command = [python, "-I", "-m", "compileall", "-q", "-q", str(root)]
    with contextlib.suppress(subprocess.SubprocessError):
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMPILE_SECONDS, check=False)


def pack(repository: Repository, archive: Path) -> None:
    """Keep the copy as a .tar.gz, the same bytes for the same files."""
    temporary = archive.with_name(f".{archive.name}.{os.getpid()}")

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        if member.name.endswith("__pycache__"):
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        with (
            temporary.open("wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0, filename="") as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            tar.add(repository.root, arcname="", filter=plain)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)


def unpack(archive: Path) -> Path:
    """Lay a kept copy out in a new temporary folder, which the caller removes.

    Raises:
        EvaluationError: the archive is absent or damaged.
    """
    folder = Path(tempfile.mkdtemp(prefix="codelm-repository-"))
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="tar")
    except (OSError, tarfile.TarError, EOFError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise EvaluationError(f"{archive} cannot be read ({error}); build the benchmark again") from None
    return folder
