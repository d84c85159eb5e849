"""What a Python program needs to read: the standard library, shared libraries, a few devices; and a way to reach it.

A fresh user may not be allowed through the folders above the standard library (an interpreter below a private home).
Then the library is opened once, before the user changes, and imported through `/proc/self/fd`.
"""

import os
import stat
import sys
import sysconfig

_SITE = ("site-packages", "dist-packages")
_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

LIBRARY_HANDLE = 230
"""The file descriptor of the standard library's folder, where the path to it is closed to other users."""


def library_folders() -> list[str]:
    """The folders of the standard library, in the order of `sys.path`; installed packages are not among them."""
    stdlib = sysconfig.get_path("stdlib")
    dynload = next((path for path in sys.path if os.path.basename(path) == "lib-dynload"), f"{stdlib}/lib-dynload")
    return [stdlib, dynload]


def readable_paths(stdlib: str, dynload: str) -> list[str]:
    """What a confined interpreter may read: the standard library without installed packages, and shared libraries.

    Installed packages are left out because a benchmark's package holds its own answers.
    """
    inside = [os.path.join(stdlib, name) for name in os.listdir(stdlib) if name not in _SITE]
    system = []
    for path in _SYSTEM:
        path = os.path.realpath(path)
        if os.path.commonpath([path, os.path.realpath(stdlib)]) == path:
            # The library lies below /usr/lib: its neighbours one by one, or site-packages would come with it.
            system += _neighbours(path, os.path.realpath(stdlib))
        else:
            system.append(path)
    return [*inside, dynload, *system]


def _neighbours(top: str, below: str) -> list[str]:
    found = []
    while top != below:
        step = os.path.join(top, os.path.relpath(below, top).split(os.sep)[0])
        for name in os.listdir(top):
            path = os.path.join(top, name)
            if path != step and name not in _SITE and not name.startswith("python"):
                found.append(path)
        top = step
    return found


def import_standard_library_only() -> tuple[str, str]:
    """Make imports see the standard library alone, by a path that any user can follow.

    To be called early: modules imported before stay where they were found.

    Returns:
        The paths of the library and of its compiled modules, now all of `sys.path`.
    """
    stdlib, dynload = library_folders()
    if os.geteuid() != 0 or anyone_may_enter(stdlib):
        sys.path[:] = [stdlib, dynload]
        return stdlib, dynload
    handle = os.open(stdlib, os.O_PATH | os.O_DIRECTORY)
    os.dup2(handle, LIBRARY_HANDLE, inheritable=False)
    os.close(handle)
    reachable = f"/proc/self/fd/{LIBRARY_HANDLE}"
    sys.path[:] = [reachable, f"{reachable}/{os.path.relpath(dynload, stdlib)}"]
    for module in list(sys.modules.values()):
        places = getattr(module, "__path__", None)
        if isinstance(places, list):
            module.__path__ = [place.replace(stdlib, reachable, 1) for place in places]
    return reachable, sys.path[1]


def anyone_may_enter(path: str) -> bool:
    """Whether every user may pass through a folder and all above it."""
    path = os.path.realpath(path)
    while True:
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return False
        if path == "/":
            return True
        path = os.path.dirname(path)
