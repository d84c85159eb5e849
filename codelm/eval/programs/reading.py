"""What a toolchain needs to read and run: the system's own folders, and where its programs are installed."""

import os
from collections.abc import Iterable

_SYSTEM = (
    "/bin", "/lib", "/lib64", "/usr/bin", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/include", "/usr/share",
    "/etc/alternatives", "/etc/R", "/etc/ld.so.cache", "/etc/localtime", "/etc/php",
    "/etc/profile", "/etc/ssl/openssl.cnf",
)  # fmt: skip
_CONFIGURED = ("java",)
"""Beginnings of the names of `/etc`'s folders with a version in their names."""
_WHOLE_SYSTEM = ("/", "/usr", "/usr/local")


def readable_paths(programs: Iterable[str]) -> list[str]:
    """Folders and files, as far as they exist. Packages of Python are left out: a benchmark's package holds answers."""
    paths = [path for path in _SYSTEM if os.path.exists(path)]
    paths += [entry.path for entry in os.scandir("/etc") if entry.name.startswith(_CONFIGURED)]
    for program in programs:
        for place in dict.fromkeys((program, os.path.realpath(program))):
            prefix = os.path.dirname(os.path.dirname(place))
            if prefix == "/usr/local":
                paths += _without_python(prefix)
            elif prefix not in _WHOLE_SYSTEM:
                paths.append(prefix)
    return list(dict.fromkeys(paths))


def _without_python(prefix: str) -> list[str]:
    names = [name for name in os.listdir(prefix) if name not in ("lib", "src")]
    library = os.path.join(prefix, "lib")
    inside = [f"lib/{name}" for name in os.listdir(library)] if os.path.isdir(library) else []
    return [os.path.join(prefix, name) for name in [*names, *inside] if not name.startswith("lib/python")]
