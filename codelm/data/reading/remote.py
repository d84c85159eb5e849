"""A remote corpus: its manifest and its streams, whose shards come through the cache."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codelm.data.manifest import MANIFEST_FILE, Manifest, load_manifest
from codelm.data.reading.cache import RemoteShard, ShardCache
from codelm.data.reading.fetch import Retry, fetch
from codelm.data.reading.shard_reader import ShardEntry, ShardReader, parse_index
from codelm.data.shards import INDEX_FILE, ShardInfo
from codelm.errors import DataError


class RemoteShardReader(ShardReader):
    """A `ShardReader` of a language of a remote corpus, through the cache.

    Raises:
        DataError: the index is absent or does not agree with the manifest.
    """

    def __init__(self, url: str, split: str, language: str, shards: Sequence[ShardInfo], cache: ShardCache) -> None:
        base = f"{url.rstrip('/')}/{split}/{language}"
        self.url, self._cache = base, cache
        self.folder = cache.folder
        recorded = [(shard.file, shard.bytes, shard.samples) for shard in shards]
        index = f"{base}/{INDEX_FILE}"

        def checked(content: bytes) -> list[ShardEntry]:
            entries = parse_index(content.decode("utf-8", errors="replace"), index)
            if [(entry.file, entry.bytes, entry.samples) for entry in entries] != recorded:
                raise DataError(f"{index} does not agree with the manifest of {url}; upload the folder again")
            return entries

        self._adopt(fetch(index, checked, cache.retry), base)
        self._remote = [RemoteShard(f"{base}/{shard.file}", shard.bytes, shard.sha256) for shard in shards]
        self._prepared: tuple[frozenset[int], frozenset[int]] | None = None

    @property
    def remote_bytes(self) -> tuple[int, ...]:
        return tuple(shard.bytes for shard in self._remote)

    def prepare(self, now: Sequence[int], soon: Sequence[int]) -> None:
        wanted = (frozenset(now), frozenset(soon))
        if wanted == self._prepared:
            return
        self._prepared = wanted
        # The room of a removed file is free only when nobody has it open.
        for shard in [shard for shard in self._files if shard not in wanted[0]]:
            os.close(self._files.pop(shard))
        self._cache.keep(self.url, [self._remote[shard] for shard in now], [self._remote[shard] for shard in soon])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_prepared": None}

    def _path(self, shard: int) -> Path:
        return self._cache.path(self._remote[shard])

    def _open(self, shard: int) -> int:
        while True:
            self._cache.get(self._remote[shard])
            try:
                return super()._open(shard)
            except DataError as error:
                # Somebody else may have removed it since.
                if not isinstance(error.__cause__, FileNotFoundError):
                    raise


def load_remote_manifest(url: str, retry: Retry) -> Manifest:
    """The manifest of a corpus behind a URL.

    Raises:
        DataError: it is absent or damaged. EnvironmentFailure: it could not be fetched.
    """

    def checked(content: bytes) -> Manifest:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / MANIFEST_FILE).write_bytes(content)
            try:
                return load_manifest(folder)
            except DataError as error:
                raise DataError(str(error).replace(folder, url.rstrip("/"))) from None

    return fetch(f"{url.rstrip('/')}/{MANIFEST_FILE}", checked, retry)
