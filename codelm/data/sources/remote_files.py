"""Files on this machine or behind a URL that fsspec opens: finding them in a fixed order, and opening them."""

import glob
import os
import stat
from dataclasses import dataclass
from typing import IO, Any

from codelm.data.documents import OTHER, Counts
from codelm.data.sources.reading_errors import explained
from codelm.errors import DataError, EnvironmentFailure


@dataclass(frozen=True)
class FoundFile:
    """An absolute path or a URL; the size in bytes, None where a server does not say."""

    url: str
    size: int | None


def find_files(where: str, pattern: str, endings: tuple[str, ...], counts: Counts) -> list[FoundFile]:
    """The files that a path, a glob pattern, a folder (with all below it) or a URL names, in the order of their names.

    Of a folder or a pattern, those with one of the endings. `where` is the key of the YAML that errors name.

    Raises:
        DataError: when there is none, it cannot be read, or a single file has another ending.
        EnvironmentFailure: when the package that opens such URLs is not installed.
    """
    if is_remote(pattern):
        with explained(pattern):
            found = _find_remote(pattern, endings)
    else:
        found = _find_local(_absolute(pattern), endings, counts)
    if not found:
        raise DataError(f"{where}: there is no file {pattern} that ends in {', '.join(endings)}")
    if any(not ends_in(file.url, endings) for file in found):
        raise DataError(f"{where}: {pattern} ends in none of {', '.join(endings)}; rename or convert it")
    return sorted(found, key=lambda file: file.url)


def list_below(folder: str, endings: tuple[str, ...], counts: Counts) -> list[FoundFile]:
    """The files with one of the endings in a folder, local or remote, in the order of their names; [] without one.

    Raises:
        DataError: when it cannot be read.
        EnvironmentFailure: when the package that opens such URLs is not installed.
    """
    if not is_remote(folder):
        path = _absolute(folder)
        found = _find_local(path, endings, counts) if os.path.isdir(path) else []
    else:
        with explained(folder):
            try:
                found = _below(*_file_system(folder), endings)
            except FileNotFoundError:
                found = []
    return sorted(found, key=lambda file: file.url)


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def is_remote(path: str) -> bool:
    """Whether fsspec opens it, rather than this machine's own file system."""
    return "://" in path or "::" in path


def ends_in(url: str, endings: tuple[str, ...]) -> bool:
    """Whether a path or URL ends so; the query of a URL is not looked at."""
    path = url.split("?")[0].split("#")[0] if is_remote(url) else url
    return path.lower().endswith(endings)


def _find_local(pattern: str, endings: tuple[str, ...], counts: Counts) -> list[FoundFile]:
    if os.path.isdir(pattern):
        # Links to folders are not followed, so that no loop can arise.
        paths = [os.path.join(folder, name) for folder, _, names in os.walk(pattern) for name in names]
    elif os.path.lexists(pattern):
        return [_regular(pattern)]
    else:
        paths = glob.glob(pattern, recursive=True, include_hidden=False)
    found = []
    for path in paths:
        if ends_in(path, endings) and not os.path.isdir(path):
            try:
                found.append(_regular(path))
            except DataError:
                # A pipe would block, and a link that leads nowhere holds nothing.
                counts.drop(OTHER, "special_file")
    return found


def _regular(path: str) -> FoundFile:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{path} is no regular file; give files of rows")
    return FoundFile(path, status.st_size)


def _find_remote(url: str, endings: tuple[str, ...]) -> list[FoundFile]:
    files, path = _file_system(url)
    if url.startswith(("http://", "https://")) or (ends_in(url, endings) and "*" not in url):
        return [FoundFile(url, files.info(path).get("size"))]
    if any(character in path for character in "*?["):
        return _chosen(files, files.glob(path, detail=True), endings)
    return _below(files, path, endings)


def _below(files: Any, path: str, endings: tuple[str, ...]) -> list[FoundFile]:
    return _chosen(files, files.find(path, detail=True), endings)


def _chosen(files: Any, listed: dict[str, dict[str, Any]], endings: tuple[str, ...]) -> list[FoundFile]:
    return [
        FoundFile(files.unstrip_protocol(name), info.get("size"))
        for name, info in listed.items()
        if info.get("type") == "file" and ends_in(name, endings)
    ]


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec  # 0.1 s to import, and most corpora are on this machine

    try:
        return fsspec.url_to_fs(url)
    except ImportError as error:
        if not url.startswith(("http://", "https://")):
            raise EnvironmentFailure(f"reading {url} needs a package that is not installed ({error})") from None
        # fsspec's usual way needs aiohttp; this one needs requests, which the tracking of runs brings.
        from fsspec.implementations.http_sync import HTTPFileSystem

        return HTTPFileSystem(), url


def open_file(url: str, at_random: bool = False) -> IO[bytes]:
    """A seekable stream of the file's bytes; `at_random`, nothing is read ahead, as fits large requests.

    Raises:
        OSError and what the file system of the URL raises; see `reading_errors.explained`.
    """
    if not is_remote(url):
        return open(url, "rb")
    files, path = _file_system(url)
    return files.open(path, "rb", **({"cache_type": "none"} if at_random else {}))
