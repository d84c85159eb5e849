"""A prepared corpus, on this machine or behind a URL: its manifest and the readers of its streams."""

from collections.abc import Callable
from dataclasses import dataclass

from codelm.data.manifest import Manifest, load_manifest
from codelm.data.reading.cache import ShardCache
from codelm.data.reading.fetch import is_remote
from codelm.data.reading.remote import RemoteShardReader, load_remote_manifest
from codelm.data.reading.shard_reader import ShardReader
from codelm.errors import DataError

DEFAULT_WINDOW = 8
"""Shards that a remote stream is shuffled within: half a gigabyte, some 130,000 samples of 2,048 tokens."""


@dataclass(frozen=True)
class Corpus:
    """What data_prep left at `path`."""

    path: str
    manifest: Manifest
    cache: ShardCache | None
    """Where its shards are fetched to; None for a local folder."""

    def samples(self, split: str) -> dict[str, int]:
        """Samples by stream of a split.

        Raises:
            DataError: there is no such split.
        """
        splits = self.manifest.splits
        if split not in splits:
            raise DataError(f"the data of {self.manifest.run_name} has no split `{split}`; it has {', '.join(splits)}")
        return {stream: info.samples for stream, info in splits[split].items()}

    def reader(self, split: str, stream: str) -> ShardReader:
        """The samples of a stream."""
        if self.cache is None:
            return ShardReader(self.path, split, stream)
        return RemoteShardReader(self.path, split, stream, self.manifest.splits[split][stream].shards, self.cache)


def open_corpus(path: str, cache: Callable[[], ShardCache]) -> Corpus:
    """The corpus at a path or URL; `cache` is called only for a URL.

    Raises:
        DataError, EnvironmentFailure: it is absent, damaged, or out of reach.
    """
    if not is_remote(path):
        return Corpus(path, load_manifest(path), None)
    its_cache = cache()
    return Corpus(path, load_remote_manifest(path, its_cache.retry), its_cache)


def check_cache_limit(cache: ShardCache, windows: dict[str, list[int]]) -> None:
    """Refuse a limit below what the present windows of all streams take; twice that also fits what is fetched ahead.

    Args:
        windows: for each stream the bytes of the shards in its largest window.

    Raises:
        DataError: the limit is too low.
    """
    needed = sum(sum(sizes) for sizes in windows.values())
    if cache.limit is not None and cache.limit < needed:
        raise DataError(
            f"train_data.cache_limit {cache.limit:,} is less than the {needed:,} bytes of shards that"
            f" {len(windows)} streams are read from at a time; raise it (to {2 * needed:,}, to fetch ahead), or lower"
            " train_data.shuffle_window"
        )
