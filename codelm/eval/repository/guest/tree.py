"""A worker's copy of the repository: a job may do with it as it likes, and afterwards it is as it was.

What a job changed of a file is seen in inode, size, and times of modification and change; the last no program can set.
Of a folder, mode and owner count: one that is closed would fail the next job, which runs as the same user.
"""

import os
import shutil
import stat
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None

_FICLONE = 0x40049409


class _Mark(NamedTuple):
    inode: int
    size: int
    mtime: int
    ctime: int


class _Folder(NamedTuple):
    mode: int
    user: int
    group: int


class Tree:
    """A copy of `pristine` at `folder`, owned by `user`; `stash` is where the job cannot look."""

    def __init__(self, pristine: str, folder: str, stash: str, user: int | None):
        self.pristine, self.folder, self.stash, self.user = pristine, folder, stash, user
        copy_folder(pristine, folder)
        self._give(folder)
        for top, folders, files in os.walk(folder):
            for name in [*folders, *files]:
                self._give(os.path.join(top, name))
        self.hidden: list[tuple[str, str]] = []
        self.folders: dict[str, _Folder] = {}
        self.known, self.folders = self._look()

    def splice(self, files: "dict[str, str]") -> None:
        """Replace the text of files; the texts that were there, and what was compiled of them, are out of reach."""
        for path, text in files.items():
            place = os.path.join(self.folder, path)
            folder, name = os.path.split(place)
            stem = name.rpartition(".")[0] + "."
            cache = os.path.join(folder, "__pycache__")
            compiled = os.listdir(cache) if os.path.isdir(cache) else []
            for old in [place, *(os.path.join(cache, entry) for entry in compiled if entry.startswith(stem))]:
                aside = os.path.join(self.stash, str(len(self.hidden)))
                os.rename(old, aside)
                self.hidden.append((aside, old))
            with open(place, "w", encoding="utf-8", newline="") as file:
                file.write(text)
            self._give(place)

    def restore(self) -> int:
        """Put everything back; how many files and folders, besides those spliced, the job made, changed or removed."""
        spliced = {old for _, old in self.hidden}
        found, folders = self._look()
        changed = 0
        for folder, mark in folders.items():
            if folder not in self.folders:
                changed += 1
                if os.path.lexists(folder):  # else it went with the one above it
                    shutil.rmtree(folder, onerror=_force)
            elif self.folders[folder] != mark:
                changed += 1
                self._reset(folder)
        for path, mark in found.items():
            if self.known.get(path) != mark and path not in spliced:
                changed += 1
                self._put_back(path)
        for path in [path for path in self.known if path not in found and path not in spliced]:
            changed += 1
            self._put_back(path)
        for aside, old in self.hidden:
            self._make_folders(os.path.dirname(old))
            os.replace(aside, old)
            self.known[old] = _mark(os.lstat(old))
        missing = [folder for folder in self.folders if folder not in folders]
        for folder in missing:
            changed += 1
            self._make_folders(folder)
        for folder in missing:  # only now, since one may be read-only
            self._reset(folder)
        self.hidden = []
        return changed

    def _put_back(self, path: str) -> None:
        original = os.path.join(self.pristine, os.path.relpath(path, self.folder))
        if os.path.lexists(path):
            os.unlink(path)
        if os.path.islink(original) or os.path.isfile(original):
            self._make_folders(os.path.dirname(path))
            copy_file(original, path)
            self._give(path)
            self.known[path] = _mark(os.lstat(path))
        else:
            self.known.pop(path, None)

    def _make_folders(self, folder: str) -> None:
        if not os.path.isdir(folder):
            self._make_folders(os.path.dirname(folder))
            os.mkdir(folder)

    def _reset(self, folder: str) -> None:
        self._give(folder)
        os.chmod(folder, self.folders[folder].mode)

    def _give(self, path: str) -> None:
        if self.user is not None:
            os.lchown(path, self.user, self.user)

    def _look(self) -> "tuple[dict[str, _Mark], dict[str, _Folder]]":
        found, folders = {}, {}
        left = [self.folder]
        while left:
            folder = left.pop()
            status = os.lstat(folder)
            mark = _Folder(stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
            if self.folders and self.folders.get(folder) != mark:
                os.chmod(folder, 0o700)  # it may be closed to us
            folders[folder] = mark
            for entry in os.scandir(folder):
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                else:
                    found[entry.path] = _mark(entry.stat(follow_symlinks=False))
        return found, folders


def _mark(status: os.stat_result) -> _Mark:
    return _Mark(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def copy_folder(source: str, target: str) -> None:
    """Copy a folder, links as links, sharing the blocks of files where the file system can."""
    shutil.copytree(source, target, symlinks=True, copy_function=copy_file)


def copy_file(source: str, target: str) -> str:
    """Copy one file with its times and modes; what is no plain file or link (a socket, a device) is left out."""
    kind = os.lstat(source).st_mode
    if stat.S_ISLNK(kind):
        os.symlink(os.readlink(source), target)
    elif stat.S_ISREG(kind):
        if not _cloned(source, target):
            shutil.copyfile(source, target)
        shutil.copystat(source, target)
    return target


def _cloned(source: str, target: str) -> bool:
    if fcntl is None:
        return False
    with open(source, "rb") as old, open(target, "wb") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            return False
    return True


def empty(folder: str) -> None:
    """Remove all that is in a folder, which stays."""
    os.chmod(folder, 0o700)
    for entry in list(os.scandir(folder)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, onerror=_force)
        else:
            os.unlink(entry.path)


def _force(_function: object, path: str, _error: object) -> None:
    """Removing failed: the job took its own rights away."""
    parent = os.path.dirname(path)
    for place in (parent, path):
        if not os.path.islink(place):
            os.chmod(place, 0o700)
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
