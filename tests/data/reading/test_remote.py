"""Shards behind a URL: fetched ahead, verified, shared, evicted; what goes wrong is retried, then one sentence."""

import errno
import hashlib
import http.server
import json
import multiprocessing
import multiprocessing.pool
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest

from codelm.data.reading import cache as caching
from codelm.data.reading.cache import RemoteShard, ShardCache
from codelm.data.reading.fetch import Retry, fetch, is_remote
from codelm.data.reading.remote import RemoteShardReader
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.shards import ShardInfo, ShardWriter
from codelm.errors import DataError, EnvironmentFailure

LENGTH = 32
FAST = Retry(attempts=4, first_wait=0.01, longest_wait=0.02)
Behaviour = Callable[[str, int], str]


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; `behave(path, n)` says what the n-th request for a path gets: ok, or one of several troubles."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.behave: Behaviour = lambda path, number: "ok"
        self.requests: dict[str, int] = {}
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        name = self.path.rsplit("/", 1)[-1]
        server.requests[name] = server.requests.get(name, 0) + 1
        trouble = server.behave(name, server.requests[name])
        if trouble.isdigit():
            self.send_error(int(trouble))
        elif trouble == "hang up":
            self.close_connection = True
            self.connection.close()
        elif trouble in ("truncated", "corrupt"):
            content = Path(self.translate_path(self.path)).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:-7] if trouble == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
            self.close_connection = True
        else:
            if trouble == "slow":
                time.sleep(0.3)
            super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Prepared:
    """A stream of 100 samples in ten shards, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = np.random.default_rng(0).integers(0, 65_536, (100, LENGTH), dtype=np.uint16)
        with ShardWriter(folder / "train" / "python", LENGTH, self.rows.dtype, 10 * LENGTH * 2) as writer:
            writer.write(self.rows.reshape(-1))
        self.shards: list[ShardInfo] = writer.shards

    @property
    def shard_bytes(self) -> int:
        return max(shard.bytes for shard in self.shards)


@pytest.fixture
def data(tmp_path: Path) -> Prepared:
    return Prepared(tmp_path / "data")


@pytest.fixture
def server(data: Prepared) -> Iterator[Server]:
    with Server(data.folder) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.02,), daemon=True).start()
        yield serving
        serving.shutdown()


@pytest.fixture
def cache(tmp_path: Path) -> ShardCache:
    return ShardCache(tmp_path / "cache", retry=FAST)


def reader(url: str, data: Prepared, cache: ShardCache) -> RemoteShardReader:
    return RemoteShardReader(url, "train", "python", data.shards, cache)


def files(cache: ShardCache, pattern: str = "*") -> set[str]:
    return {path.name for path in cache.folder.glob(pattern)}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(data: Prepared, shards: list[int]) -> set[str]:
    return {f"{data.shards[shard].sha256}.mds" for shard in shards}


def test_samples_come_from_http_as_from_the_folder(data: Prepared, server: Server, cache: ShardCache) -> None:
    samples = reader(server.url, data, cache)
    assert len(samples) == 100
    np.testing.assert_array_equal(samples.read(np.arange(100)[::-1]).tokens, data.rows[::-1])
    assert files(cache) == names(data, list(range(10)))
    again = ShardCache(cache.folder, retry=FAST)
    np.testing.assert_array_equal(reader(server.url, data, again)[7], data.rows[7])
    assert server.requests["shard.00000.mds"] == 1


def test_samples_come_from_any_file_system_of_fsspec(data: Prepared, cache: ShardCache) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(data.folder), "/bucket/data", recursive=True)
    try:
        samples = reader("memory://bucket/data/", data, cache)
        np.testing.assert_array_equal(samples.read(range(100)).tokens, data.rows)
    finally:
        memory.rm("/bucket", recursive=True)


def test_what_is_a_url() -> None:
    assert is_remote("s3://bucket/data")
    assert not is_remote("/data/a:b")
    assert not is_remote("runs/data")


# Ahead of use, and within a limit.


def test_shards_are_fetched_before_they_are_read(data: Prepared, server: Server, cache: ShardCache) -> None:
    samples = reader(server.url, data, cache)
    samples.prepare([3, 1], [4])
    wait_for(lambda: files(cache) == names(data, [1, 3, 4]))
    server.behave = lambda path, number: "500"
    np.testing.assert_array_equal(samples.read([35, 12, 49]).tokens, data.rows[[35, 12, 49]])


def test_what_is_announced_again_and_again_is_fetched_once(data: Prepared, server: Server, cache: ShardCache) -> None:
    server.behave = lambda path, number: "slow"
    samples = reader(server.url, data, cache)
    for _ in range(20):
        samples.prepare([0], [1])
    samples.read([5, 15])
    assert server.requests["shard.00000.mds"] == server.requests["shard.00001.mds"] == 1


def test_the_shards_used_longest_ago_are_evicted(data: Prepared, server: Server, tmp_path: Path) -> None:
    limited = ShardCache(tmp_path / "cache", limit=3 * data.shard_bytes, retry=FAST)
    samples = reader(server.url, data, limited)
    for sample in (5, 15, 25):
        samples.read([sample])
        time.sleep(0.01)
    limited.get(samples._remote[0])
    samples.read([35])
    assert files(limited) == names(data, [0, 2, 3])
    np.testing.assert_array_equal(samples.read(range(100)).tokens, data.rows)
    assert sum(path.stat().st_size for path in limited.folder.iterdir()) <= 3 * data.shard_bytes


def test_fetching_ahead_evicts_nothing_that_is_in_use(data: Prepared, server: Server, tmp_path: Path) -> None:
    limited = ShardCache(tmp_path / "cache", limit=3 * data.shard_bytes, retry=FAST)
    samples = reader(server.url, data, limited)
    samples.prepare([0, 1], [])
    wait_for(lambda: files(limited) == names(data, [0, 1]))
    samples.prepare([0, 1], [2, 3, 4])
    wait_for(lambda: len(files(limited)) == 3 and not limited._fetcher._asked)  # pyright: ignore
    assert names(data, [0, 1]) < files(limited)
    samples.prepare([2, 3], [4])
    samples.read([25, 35])
    assert names(data, [2, 3]) < files(limited)


def test_evicting_a_shard_under_a_reader_does_not_disturb_it(data: Prepared, server: Server, cache: ShardCache) -> None:
    samples = reader(server.url, data, cache)
    samples.read([5])
    for path in cache.folder.iterdir():
        path.unlink()
    np.testing.assert_array_equal(samples[6], data.rows[6])
    samples.prepare([1], [])
    np.testing.assert_array_equal(samples[6], data.rows[6])


# Trouble.


@pytest.mark.parametrize("trouble", ["500", "503", "429", "hang up", "truncated", "corrupt"])
def test_trouble_that_passes_is_not_noticed(data: Prepared, server: Server, cache: ShardCache, trouble: str) -> None:
    server.behave = lambda path, number: trouble if number <= 2 else "ok"
    np.testing.assert_array_equal(reader(server.url, data, cache).read(range(100)).tokens, data.rows)
    assert server.requests["shard.00003.mds"] == 3
    assert not files(cache, "*.part")


@pytest.mark.parametrize(
    ("trouble", "kind", "sentence"),
    [
        (
            "503",
            EnvironmentFailure,
            r"00002.mds could not be fetched in 4 attempts \(HTTP Error 503.*run the same",
        ),
        ("hang up", EnvironmentFailure, r"shard.00002.mds could not be fetched in 4 attempts"),
        ("truncated", DataError, r"shard.00002.mds has [\d,]+ bytes instead of the [\d,]+ that its manifest says, in"),
        ("corrupt", DataError, r"shard.00002.mds has other contents than its manifest says .*in each of 4 attempts"),
        ("404", DataError, r"there is no http://.*shard.00002.mds; correct the path"),
        ("403", DataError, r"access to http://.*shard.00002.mds is refused .*credentials"),
    ],
)
def test_trouble_that_stays_is_one_sentence(
    data: Prepared, server: Server, cache: ShardCache, trouble: str, kind: type[Exception], sentence: str
) -> None:
    server.behave = lambda path, number: trouble if path == "shard.00002.mds" else "ok"
    samples = reader(server.url, data, cache)
    samples.prepare([2], [])
    with pytest.raises(kind, match=sentence) as caught:
        samples.read([25])
    assert "\n" not in str(caught.value)
    wait_for(lambda: not files(cache, "*.part"))
    np.testing.assert_array_equal(samples[35], data.rows[35])
    if trouble in ("404", "403"):
        assert server.requests["shard.00002.mds"] <= 2


def test_nobody_listens(cache: ShardCache) -> None:
    with pytest.raises(EnvironmentFailure, match=r"could not be fetched in 4 attempts \(.*refused"):
        fetch("http://127.0.0.1:9/manifest.json", bytes, cache.retry)


def test_waits_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    with pytest.raises(EnvironmentFailure):
        fetch("http://127.0.0.1:9/x", bytes, Retry(attempts=6, first_wait=1.0, longest_wait=5.0))
    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_a_driver_that_is_not_installed_is_named(cache: ShardCache) -> None:
    if "s3fs" in sys.modules or not fsspec.available_protocols():
        pytest.skip("s3fs is here")
    with pytest.raises(EnvironmentFailure, match="needs s3fs, which is not installed; pip install s3fs"):
        fetch("s3://bucket/manifest.json", bytes, cache.retry)
    with pytest.raises(DataError, match=r"nonsense://x cannot be opened .*use a folder"):
        fetch("nonsense://x", bytes, cache.retry)


def test_a_full_disk_is_said_at_once_and_leaves_no_part(
    data: Prepared, server: Server, cache: ShardCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    samples = reader(server.url, data, cache)
    with pytest.raises(EnvironmentFailure, match=f"the disk is full while writing {cache.folder}; free some space"):
        samples.read([0])
    assert not files(cache)
    assert "shard.00000.mds" not in server.requests


def test_a_small_disk_is_full(data: Prepared, server: Server, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    try:
        with pytest.raises(EnvironmentFailure, match="the disk is full"):
            reader(server.url, data, ShardCache(disk / "cache", retry=FAST)).read(range(100))
        assert not list((disk / "cache").glob("*.part"))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_an_index_that_is_not_the_manifests(data: Prepared, server: Server, cache: ShardCache) -> None:
    index = data.folder / "train" / "python" / "index.json"
    content = json.loads(index.read_text())
    content["shards"].pop()
    index.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"http://.*index.json does not agree with the manifest"):
        reader(server.url, data, cache)
    index.write_text("{")
    with pytest.raises(DataError, match=r"http://.*index.json is damaged"):
        reader(server.url, data, cache)


# Several processes.


def test_parts_of_the_killed_are_removed_and_those_of_the_living_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / f"{'a' * 64}.part").write_bytes(b"half")
    mine = caching._lock(folder / f"{'b' * 64}.part", wait=False)
    assert mine is not None
    ShardCache(folder)
    assert [path.name[0] for path in folder.iterdir()] == ["b"]
    os.close(mine)


def read_all(url: str, folder: Path, data_folder: Path, shards: list[ShardInfo], order: list[int]) -> str:
    """In another process: a hash of all samples."""
    cache = ShardCache(folder, limit=4 * max(shard.bytes for shard in shards), retry=FAST)
    samples = RemoteShardReader(url, "train", "python", shards, cache)
    rows = np.empty((100, LENGTH), np.uint16)
    for shard in order:
        samples.prepare([shard], [(shard + 1) % 10])
        rows[10 * shard : 10 * shard + 10] = samples.read(range(10 * shard, 10 * shard + 10)).tokens
    return hashlib.sha256(rows.tobytes()).hexdigest()


def forked_pool(processes: int) -> multiprocessing.pool.Pool:
    """Forked workers that SIGTERM ends.

    Importing Composer sets a handler in Python, which never runs in a worker that the signal meets just before it
    waits for a task: `terminate` would then wait for it for ever.
    """
    by_default = (signal.SIGTERM, signal.SIG_DFL)
    return multiprocessing.get_context("fork").Pool(processes, initializer=signal.signal, initargs=by_default)


def test_processes_share_a_cache_with_a_limit(data: Prepared, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    orders = [[*range(10)], [*range(10)], [*range(9, -1, -1)], [*range(5, 10), *range(5)]]
    with forked_pool(4) as pool:
        found = pool.starmap(read_all, [(server.url, folder, data.folder, data.shards, order) for order in orders])
    assert set(found) == {hashlib.sha256(data.rows.tobytes()).hexdigest()}
    assert all(path.suffix in (".mds", ".part") for path in folder.iterdir())
    ShardCache(folder)
    assert all(path.suffix == ".mds" for path in folder.iterdir())


def test_processes_that_want_the_same_shard_fetch_it_once(data: Prepared, server: Server, tmp_path: Path) -> None:
    server.behave = lambda path, number: "slow" if path.endswith(".mds") else "ok"
    shard = RemoteShard(f"{server.url}/train/python/shard.00000.mds", data.shards[0].bytes, data.shards[0].sha256)
    cache = ShardCache(tmp_path / "cache", retry=FAST)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=cache.get, args=(shard,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert server.requests["shard.00000.mds"] == 1
    assert files(cache) == names(data, [0])


def test_who_is_killed_while_fetching_holds_nobody_up(data: Prepared, server: Server, cache: ShardCache) -> None:
    server.behave = lambda path, number: "slow" if number == 1 else "ok"
    shard = RemoteShard(f"{server.url}/train/python/shard.00000.mds", data.shards[0].bytes, data.shards[0].sha256)
    process = multiprocessing.get_context("fork").Process(target=cache.get, args=(shard,))
    process.start()
    wait_for(lambda: "shard.00000.mds" in server.requests)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    assert cache.get(shard).stat().st_size == shard.bytes
    process.join()
    assert files(cache) == names(data, [0])


def test_a_reader_that_was_used_can_be_forked_and_pickled(data: Prepared, server: Server, cache: ShardCache) -> None:
    samples = reader(server.url, data, cache)
    samples.prepare([0], [1])
    samples.read([5])
    copy = pickle.loads(pickle.dumps(samples))
    copy.prepare([2], [3])
    np.testing.assert_array_equal(copy[25], data.rows[25])
    assert isinstance(copy, ShardReader)
    with forked_pool(1) as pool:
        np.testing.assert_array_equal(pool.apply(prepared_row, (samples,)), data.rows[85])


def prepared_row(samples: RemoteShardReader) -> np.ndarray:
    samples.prepare([8], [9])
    return samples[85]
