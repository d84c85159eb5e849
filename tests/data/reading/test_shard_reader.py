"""Reading: rows in any order, loss masks, few open files, flat memory, and shards of mosaicml-streaming."""

import json
import os
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.reading.shard_reader import ShardReader, parse_index, row_layout
from codelm.data.reading.stream import HeldOutDataset, eval_loader
from codelm.data.shards import ShardWriter
from codelm.errors import DataError

LENGTH = 48


def random_rows(count: int, length: int = LENGTH, dtype: type = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65_536, (count, length)).astype(dtype)


def write(folder: Path, rows: np.ndarray, mask: np.ndarray | None = None, shard_bytes: int = 3000) -> ShardReader:
    target = folder / "train" / "python"
    with ShardWriter(target, rows.shape[1], rows.dtype, shard_bytes, loss_mask=mask is not None) as writer:
        writer.write_rows(rows, mask)
    return ShardReader(folder, "train", "python")


@given(st.lists(st.integers(0, 99), max_size=30))
@settings(max_examples=30, deadline=None)
def test_rows_come_in_the_order_they_are_asked_for(
    tmp_path_factory: pytest.TempPathFactory, indices: list[int]
) -> None:
    rows = random_rows(100)
    reader = write(tmp_path_factory.mktemp("shards"), rows)
    found = reader.read(indices)
    assert found.tokens.shape == (len(indices), LENGTH)
    np.testing.assert_array_equal(found.tokens, rows[indices] if indices else rows[:0])
    assert found.loss_mask is None


@pytest.mark.parametrize("length", [48, 7])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_loss_mask_comes_with_its_row(tmp_path: Path, length: int, dtype: type) -> None:
    """Rows of an odd length put the tokens at odd addresses."""
    rows = random_rows(50, length, dtype)
    mask = (rows % 3 == 0).astype(np.uint8)
    reader = write(tmp_path, rows, mask, shard_bytes=1000)
    assert reader.has_loss_mask
    assert len(reader.shard_samples) > 1
    indices = [49, 0, 17, 3]
    found = reader.read(indices)
    np.testing.assert_array_equal(found.tokens, rows[indices])
    assert found.loss_mask is not None
    np.testing.assert_array_equal(found.loss_mask, mask[indices])
    np.testing.assert_array_equal(reader[17].astype(np.int64), rows[17])


def test_more_shards_than_a_process_may_open(tmp_path: Path) -> None:
    rows = random_rows(300)
    reader = write(tmp_path, rows, shard_bytes=1)
    assert len(reader.shard_samples) == 300
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 30, limits[1]))
    try:
        order = np.random.default_rng(1).permutation(300)
        np.testing.assert_array_equal(reader.read(order).tokens, rows[order])
        assert len(os.listdir("/proc/self/fd")) <= opened + 20
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    del reader
    assert len(os.listdir("/proc/self/fd")) == opened


def test_a_shard_that_is_cut_while_it_is_read_is_named(tmp_path: Path) -> None:
    """Through a memory map this would be SIGBUS."""
    reader = write(tmp_path, random_rows(100))
    file = tmp_path / "train" / "python" / "shard.00000.mds"
    reader.read([0])
    os.truncate(file, 500)
    with pytest.raises(DataError, match=r"shard\.00000\.mds was cut short while it was read; restore it"):
        reader.read([25])


def test_a_shard_that_is_removed_before_it_is_read_is_named(tmp_path: Path) -> None:
    """Also where a worker process meets it, which hands on no more than the kind and the text of an error."""
    reader = write(tmp_path, random_rows(100))
    (tmp_path / "train" / "python" / "shard.00000.mds").unlink()
    sentence = r"shard\.00000\.mds cannot be opened \(No such file or directory\); restore it"
    with pytest.raises(DataError, match=sentence):
        reader.read([0])
    loader = eval_loader(HeldOutDataset(reader, None), 4, 1, 0, 1)
    loader.num_workers, loader.prefetch_factor = 1, 2
    with pytest.raises(DataError, match=rf"^the shard .*{sentence}, and run again$"):
        next(iter(loader))


def resident(kind: str) -> int:
    """KiB of this process's memory: RssAnon is its own, RssFile that of files mapped into it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def test_memory_stays_flat_over_an_epoch(tmp_path: Path) -> None:
    """Neither the process's own memory nor that of mapped files grows with what was read (60 MB here)."""
    rows = np.zeros((15_000, 2048), np.uint16)
    rows[:, 0] = np.arange(15_000)
    reader = write(tmp_path, rows, shard_bytes=1 << 22)
    del rows
    order = np.random.default_rng(0).permutation(15_000)
    reader.read(order[:64])
    before = resident("RssAnon"), resident("RssFile")
    seen = 0
    for start in range(0, 15_000, 64):
        seen += len(set(reader.read(order[start : start + 64]).tokens[:, 0].tolist()))
    grown = resident("RssAnon") - before[0], resident("RssFile") - before[1]
    assert seen == 15_000
    assert max(grown) < 6_000


@pytest.mark.parametrize(
    "columns",
    [
        {"tokens": "ndarray:uint16"},
        {"loss_mask": "ndarray:uint8:40", "tokens": "ndarray:uint16:48"},
        {"loss_mask": "ndarray:uint16:48", "tokens": "ndarray:uint16:48"},
        {"input_ids": "ndarray:uint16:48"},
        {"text": "str", "tokens": "ndarray:uint16:48"},
    ],
)
def test_other_columns_are_refused(columns: dict[str, str]) -> None:
    shard = {
        "format": "mds",
        "compression": None,
        "column_names": [*columns],
        "column_encodings": [*columns.values()],
        "raw_data": {"basename": "shard.00000.mds", "bytes": 100},
        "samples": 1,
    }
    entries = parse_index(json.dumps({"shards": [shard]}), "here")
    with pytest.raises(DataError, match="the shards in here are not uncompressed MDS with one column"):
        row_layout(entries, "here")


def test_mosaicml_streaming_reads_our_loss_masks_and_we_read_its(tmp_path: Path) -> None:
    streaming = pytest.importorskip("streaming", reason="mosaicml-streaming lives in an environment of its own")
    rows = random_rows(60, 31)
    mask = (rows % 2).astype(np.uint8)
    write(tmp_path / "ours", rows, mask)
    dataset = streaming.StreamingDataset(
        local=str(tmp_path / "ours" / "train" / "python"), shuffle=False, batch_size=1, validate_hash="sha256"
    )
    for index in range(60):
        np.testing.assert_array_equal(dataset[index]["tokens"], rows[index])
        np.testing.assert_array_equal(dataset[index]["loss_mask"], mask[index])
    columns = {"tokens": "ndarray:uint16:31", "loss_mask": "ndarray:uint8:31"}
    out = tmp_path / "theirs" / "train" / "python"
    with streaming.MDSWriter(out=str(out), columns=columns, size_limit=3000) as writer:
        for row, counted in zip(rows, mask, strict=True):
            writer.write({"tokens": row, "loss_mask": counted})
    found = ShardReader(tmp_path / "theirs", "train", "python").read(range(60))
    np.testing.assert_array_equal(found.tokens, rows)
    assert found.loss_mask is not None
    np.testing.assert_array_equal(found.loss_mask, mask)
