"""A folder's files, with everything hostile that a disk can hold: nothing outside the folder is reached.

Every component of a path is opened on its own and without following links. So a folder that is exchanged for a link
meanwhile leads nowhere, and paths longer than the system's limit (4,096 bytes on Linux) are read too.
"""

import os
import stat
from collections.abc import Iterator

from codelm.data.documents import FileEntry

HISTORY_FOLDERS = frozenset({".git", ".hg", ".svn", ".bzr"})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe would block without O_NONBLOCK.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def walk(root: str, flat: bool = False) -> Iterator[tuple[FileEntry, str | None]]:
    """The files below a folder, each with the reason why it is no regular file, or None.

    Depth first, in the order of names; with `flat`, the files of the folder itself alone. A folder that cannot be read
    is one entry, `unreadable`.
    """
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            listed = _list_folder(root, prefix)
        except OSError:
            yield FileEntry(prefix, 0), "unreadable"
            continue
        below = []
        for name, status, leads_to_folder in listed:
            path = prefix + name
            if status is None:
                yield FileEntry(path, 0), "unreadable"
            elif stat.S_ISDIR(status.st_mode):
                if not flat and name not in HISTORY_FOLDERS:
                    below.append(path + "/")
            elif stat.S_ISLNK(status.st_mode):
                if not flat or not leads_to_folder:
                    yield FileEntry(path, 0), "symlink"
            else:
                yield FileEntry(path, status.st_size), None if stat.S_ISREG(status.st_mode) else "special_file"
        waiting += reversed(below)


def read_file(root: str, path: str, limit: int) -> bytes | None:
    """At most limit + 1 bytes of a regular file below `root`; None when it is none by now, or cannot be read."""
    try:
        descriptor = _open_below(root, path, _FILE)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            return stream.read(limit + 1)
    except OSError:
        return None


def _list_folder(root: str, prefix: str) -> list[tuple[str, os.stat_result | None, bool]]:
    """Name, status and whether it leads to a folder, of each entry in the order of names."""
    descriptor = _open_below(root, prefix, _FOLDER)
    try:
        with os.scandir(descriptor) as entries:
            return sorted(((entry.name, _status(entry), _is_folder(entry)) for entry in entries), key=lambda e: e[0])
    finally:
        os.close(descriptor)


def _status(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat(follow_symlinks=False)
    except OSError:
        return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _open_below(root: str, path: str, flags: int) -> int:
    """A descriptor of `path`, which no link on the way may lead out of `root`.

    Raises:
        OSError: when a component is absent, a link, or not readable.
    """
    parts = [part for part in path.split("/") if part]
    descriptor = os.open(root, _FOLDER & ~os.O_NOFOLLOW)
    for index, part in enumerate(parts):
        try:
            below = os.open(part, flags if index == len(parts) - 1 else _FOLDER, dir_fd=descriptor)
        finally:
            os.close(descriptor)
        descriptor = below
    return descriptor
