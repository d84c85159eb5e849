"""The cache of remote shards: fetched ahead of use, verified by hash, removed again to keep within a limit.

Files in the cache are named by the SHA-256 of their contents, so several corpora, runs, ranks and workers share it. A
shard is fetched into `<hash>.part`, which is locked (flock) by whoever writes it, and renamed when its hash is right:
there are no other lock files, and what a killed process left behind is not locked and is used or removed by the next.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.data.reading.fetch import Retry, WrongContents, open_url, retried
from codelm.errors import CodelmError

log = logging.getLogger(__name__)

_THREADS = 4
_CHUNK = 1 << 20
_PART = ".part"
DEFAULT_CACHE = "~/.cache/codelm/shards"


@dataclass(frozen=True)
class RemoteShard:
    """A shard behind a URL, and what the manifest says of it."""

    url: str
    bytes: int
    sha256: str


class ShardCache:
    """Shards of remote corpora in a local folder.

    Args:
        folder: made if need be.
        limit: bytes that it may hold, or None. Shards of `keep` are the last to be removed.
    """

    def __init__(self, folder: str | Path, limit: int | None = None, retry: Retry | None = None) -> None:
        self.folder = Path(folder).expanduser().absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.limit = limit
        self.retry = retry or Retry()
        self._now: dict[str, frozenset[str]] = {}
        self._soon: dict[str, frozenset[str]] = {}
        self._fetcher: _Fetcher | None = None
        self._remove_what_the_killed_left()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fetcher": None}

    def path(self, shard: RemoteShard) -> Path:
        return self.folder / f"{shard.sha256}.mds"

    def get(self, shard: RemoteShard) -> Path:
        """The local file of a shard, fetched if it is not there.

        Raises:
            DataError, EnvironmentFailure: as `codelm.data.reading.fetch.retried`.
        """
        found = self._get(shard, hurry=True)
        assert found is not None
        return found

    def keep(self, owner: str, now: Sequence[RemoteShard], soon: Sequence[RemoteShard]) -> None:
        """Fetch shards in the background, and keep them until the next call for the same owner."""
        self._now[owner] = frozenset(shard.sha256 for shard in now)
        self._soon[owner] = frozenset(shard.sha256 for shard in soon)
        # A fork has the object, but not its threads.
        if self._fetcher is None or self._fetcher.process != os.getpid():
            self._fetcher = _Fetcher(self)
        for shard in (*now, *soon):
            with contextlib.suppress(FileNotFoundError):
                os.utime(self.path(shard))
                continue
            self._fetcher.put(shard)

    def _get(self, shard: RemoteShard, hurry: bool) -> Path | None:
        """As `get`; without hurry None where somebody else is fetching it, or there is no room yet."""
        path, part = self.path(shard), self.folder / f"{shard.sha256}{_PART}"
        while not self._present(shard):
            file = _lock(part, wait=hurry)
            if file is None:
                return None
            try:
                if self._present(shard):
                    part.unlink()
                else:
                    retried(lambda f=file: self._download(shard, f, hurry), shard.url, self.retry)
                    os.replace(part, path)
            except BaseException as error:
                part.unlink(missing_ok=True)
                if isinstance(error, _NoRoom):
                    return None
                raise
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)
                os.close(file)
        return path

    def _present(self, shard: RemoteShard) -> bool:
        path = self.path(shard)
        try:
            if path.stat().st_size == shard.bytes:
                os.utime(path)
                return True
            path.unlink()
        except FileNotFoundError:
            pass
        return False

    def _download(self, shard: RemoteShard, file: int, hurry: bool) -> None:
        os.ftruncate(file, 0)
        try:
            self._reserve(shard, file, hurry)
            digest, size = hashlib.sha256(), 0
            with open_url(shard.url) as stream:
                while chunk := stream.read(_CHUNK):
                    digest.update(chunk)
                    size += os.pwrite(file, chunk, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                error.filename = str(self.folder)
            raise
        if size != shard.bytes:
            raise WrongContents(f"has {size:,} bytes instead of the {shard.bytes:,} that its manifest says")
        if digest.hexdigest() != shard.sha256:
            raise WrongContents("has other contents than its manifest says (its SHA-256 differs)")
        os.fsync(file)

    def _reserve(self, shard: RemoteShard, file: int, hurry: bool) -> None:
        """Make room within the limit, and take it on the disk before a byte is fetched."""
        with _locked_folder(self.folder):
            if self.limit is not None:
                self._evict(self.limit - shard.bytes, hurry)
            os.posix_fallocate(file, 0, shard.bytes)

    def _evict(self, goal: int, hurry: bool) -> None:
        """Remove the shards used longest ago until `goal` bytes are left; in a hurry even some that are kept."""
        now, soon = frozenset().union(*self._now.values()), frozenset().union(*self._soon.values())
        files: dict[str, os.stat_result] = {}
        for entry in os.scandir(self.folder):
            # Renamed or removed by somebody else in the meantime.
            with contextlib.suppress(FileNotFoundError):
                files[entry.name] = entry.stat()
        total = sum(status.st_size for status in files.values())
        removable = sorted(
            (name[:-4] in now, name[:-4] in soon, status.st_mtime_ns, name, status.st_size)
            for name, status in files.items()
            if name.endswith(".mds")
        )
        for kept_now, kept_soon, _, name, size in removable:
            if total <= goal:
                break
            if not hurry and (kept_now or kept_soon):
                raise _NoRoom
            (self.folder / name).unlink(missing_ok=True)
            total -= size

    def _remove_what_the_killed_left(self) -> None:
        for part in self.folder.glob(f"*{_PART}"):
            file = _lock(part, wait=False)
            if file is not None:
                part.unlink(missing_ok=True)
                fcntl.flock(file, fcntl.LOCK_UN)
                os.close(file)


class _NoRoom(CodelmError):
    """What is fetched ahead must wait: the cache is full of shards that are in use."""


class _Fetcher:
    """Threads that fetch shards in the order in which they were asked for."""

    def __init__(self, cache: ShardCache) -> None:
        self.process = os.getpid()
        self._cache = cache
        self._queue: queue.SimpleQueue[RemoteShard] = queue.SimpleQueue()
        self._asked: set[str] = set()
        for _ in range(_THREADS):
            # Nobody waits for them at the end: a part that is never finished is removed by the next run.
            threading.Thread(target=self._work, daemon=True).start()

    def put(self, shard: RemoteShard) -> None:
        if shard.sha256 not in self._asked:
            self._asked.add(shard.sha256)
            self._queue.put(shard)

    def _work(self) -> None:
        while True:
            shard = self._queue.get()
            try:
                self._cache._get(shard, hurry=False)
            except Exception as error:
                # Whoever needs the shard will meet the same error, and say so.
                log.debug("fetching ahead failed: %s", error)
            self._asked.discard(shard.sha256)


@contextlib.contextmanager
def _locked_folder(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(part: Path, wait: bool) -> int | None:
    """The part, open and locked; None without waiting when somebody else has it."""
    while True:
        file = os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            # Whoever had it has renamed or removed it since: that file is no part any more.
            if os.fstat(file).st_ino == part.stat().st_ino:
                return file
        except BlockingIOError:
            os.close(file)
            return None
        except FileNotFoundError:
            pass
        fcntl.flock(file, fcntl.LOCK_UN)
        os.close(file)
