"""The interpreter of a repository's environment: what it is, and what a confined run of it must read."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from codelm.errors import EvaluationError

OLDEST = (3, 10)
_SECONDS = 60
_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt",
    *(f"/etc/{name}" for name in (
        "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "timezone", "passwd", "group",
        "nsswitch.conf", "hosts", "host.conf", "mime.types", "services", "protocols", "ssl/certs", "os-release",
        "fonts", "magic", "locale.alias", "locale.conf")),
    "/proc/cpuinfo", "/proc/meminfo", "/proc/version", "/proc/stat", "/proc/filesystems",
)  # fmt: skip
_PROBE = """
import json, os, sys, sysconfig
try:
    import pytest
    version = pytest.__version__
except ImportError:
    version = None
print(json.dumps({
    "version": list(sys.version_info[:3]), "pytest": version, "prefixes": [sys.prefix, sys.base_prefix],
    "executable": sys.executable, "path": [p for p in sys.path if p], "site": sysconfig.get_paths()["purelib"],
}))
"""


@dataclass(frozen=True)
class Environment:
    """An interpreter with pytest."""

    python: str
    version: tuple[int, ...]
    pytest: str
    prefixes: tuple[str, ...]
    """Its own folder and that of the interpreter below it."""
    path: tuple[str, ...]
    """`sys.path`."""
    site_packages: str

    def readable(self, repository: str, own: set[str]) -> list[list[str]]:
        """What a job may read besides its copy: the environment and the system, but not the repository itself.

        Args:
            repository: the original, which an editable installation leads to.
            own: top-level names of the repository's packages: an installed copy of them holds the answers.

        Returns:
            Pairs of a path and what may be read below it: `all`, or only the `names` of files.
        """
        places = [*self.prefixes, *self.path, *_SYSTEM, os.path.dirname(os.path.realpath(self.python))]
        places += [os.path.dirname(self.python)]
        rules: list[list[str]] = []
        for place in dict.fromkeys(os.path.realpath(place) for place in places):
            if not os.path.exists(place) or place == "/" or _holds(place, repository):
                continue
            if _holds(repository, place) and not any(_holds(prefix, place) for prefix in self.prefixes):
                continue
            rules += _without(place, os.path.realpath(self.site_packages), own)
        return rules


def _holds(folder: str, place: str) -> bool:
    folder, place = os.path.realpath(folder), os.path.realpath(place)
    return place == folder or place.startswith(folder.rstrip("/") + "/")


def _without(place: str, site: str, own: set[str]) -> list[list[str]]:
    """The rules of a place, without the repository's packages if they are installed below it."""
    hidden = [entry for entry in os.listdir(site) if entry.split(".")[0] in own] if os.path.isdir(site) else []
    if not hidden or not _holds(place, site):
        return [[place, "all"]]
    rules = [[place, "names"]]
    top = place
    while top != site:
        step = os.path.join(top, os.path.relpath(site, top).split(os.sep)[0])
        rules += [[os.path.join(top, name), "all"] for name in os.listdir(top) if os.path.join(top, name) != step]
        top = step
    return rules + [[os.path.join(site, name), "all"] for name in os.listdir(site) if name not in hidden]


def inspect_environment(python: str, asked: str = "--python") -> Environment:
    """Ask an interpreter what it is.

    Args:
        asked: what named it, for the sentence when it will not do.

    Raises:
        EvaluationError: it does not run, is too old, or has no pytest.
    """
    path = Path(python).expanduser().absolute()
    if not path.is_file() or not os.access(path, os.X_OK):
        raise EvaluationError(
            f"{asked}: {python} is no interpreter; give the bin/python of the repository's environment"
        )
    try:
        answer = subprocess.run(
            [str(path), "-c", _PROBE], capture_output=True, text=True, timeout=_SECONDS, check=True, cwd="/",
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        fields = json.loads(answer.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        raise EvaluationError(
            f"{asked}: {python} does not run as a Python 3 interpreter; give the bin/python of the repository's"
            " environment"
        ) from None
    version = tuple(fields["version"])
    if version < OLDEST:
        raise EvaluationError(
            f"{asked}: {python} is Python {'.'.join(map(str, version))}; an environment of Python"
            f" {'.'.join(map(str, OLDEST))} or newer is needed"
        )
    if fields["pytest"] is None:
        raise EvaluationError(
            f"{asked}: {python} has no pytest: run `{python} -m pip install pytest`, or name another environment"
        )
    return Environment(
        python=str(path),
        version=version,
        pytest=fields["pytest"],
        prefixes=tuple(fields["prefixes"]),
        path=tuple(fields["path"]),
        site_packages=fields["site"],
    )
