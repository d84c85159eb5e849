"""`files.json`: the size and hash of every file of a checkpoint, written last and checked before resuming."""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import xxhash

from codelm.errors import EnvironmentFailure

HASHES = "files.json"
_FORMAT = 1
_ALGORITHM = "xxh3_128"
_CHUNK = 1 << 24
_READERS = 4


class Fingerprint(NamedTuple):
    """What a file must be."""

    size: int
    """Bytes."""
    hash: str


def new_hash() -> xxhash.xxh3_128:
    """A hash to feed; at 10 GB/s and more it costs less than the disk. It finds damage, not malice."""
    return xxhash.xxh3_128()


def fingerprint(file: Path) -> Fingerprint:
    """The size and hash of a file as it is read back."""
    digest, size = new_hash(), 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Fingerprint(size, digest.hexdigest())


def write_hashes(folder: Path, known: Mapping[str, Fingerprint]) -> None:
    """Record the files of a folder; `known` (by path relative to it) were hashed as they were written."""
    paths = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    files = {path: known.get(path) or fingerprint(folder / path) for path in paths if path != HASHES}
    record = {"format": _FORMAT, "algorithm": _ALGORITHM, "files": files}
    (folder / HASHES).write_text(json.dumps(record, indent=1) + "\n")


def read_hashes(folder: Path) -> dict[str, Fingerprint]:
    """The record of a folder.

    Raises:
        ValueError: it is absent or torn; the text says so.
        OSError: it is there, and cannot be read.
    """
    try:
        record = json.loads((folder / HASHES).read_text())
        if record["format"] != _FORMAT or record["algorithm"] != _ALGORITHM:
            raise ValueError(f"{HASHES} is of another format")
        return {path: Fingerprint(int(size), str(digest)) for path, (size, digest) in record["files"].items()}
    except FileNotFoundError as error:
        raise ValueError(f"{HASHES} is missing") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{HASHES} cannot be read") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{HASHES} is torn") from error


def damage(folder: Path, deep: bool = True) -> str | None:
    """What is wrong with a checkpoint's files, in a few words; None when all are as they were written.

    Args:
        folder: the checkpoint.
        deep: also read and hash them; otherwise only their sizes are looked at.

    Raises:
        EnvironmentFailure: a file is there and cannot be read, as where a disk fails or permissions are missing: that
            says nothing of what is in it.
    """
    try:
        return _damage(folder, deep)
    except OSError as error:
        raise EnvironmentFailure(
            f"{error.filename or folder} cannot be read ({error.strerror or error}); mend that and run the same command"
            f" again, or move {folder} away to go on from the checkpoint before it"
        ) from error


def _damage(folder: Path, deep: bool) -> str | None:
    try:
        files = read_hashes(folder)
    except ValueError as error:
        return str(error)
    for path, expected in files.items():
        file = folder / path
        if not file.is_file():
            return f"{path} is missing"
        if file.stat().st_size != expected.size:
            return f"{path} has {file.stat().st_size:,} bytes of {expected.size:,}"
    if not deep:
        return None

    def wrong(path: str) -> str | None:
        try:
            found = fingerprint(folder / path)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(folder / path)) from error  # reading names no file
        return None if found == files[path] else f"{path} is not what was written"

    with ThreadPoolExecutor(_READERS) as pool:
        return next(filter(None, pool.map(wrong, files)), None)
