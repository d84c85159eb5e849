"""Shards: what is written is read, by us and by mosaicml-streaming; damage is named."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.reading.shard_reader import ShardReader
from codelm.data.shards import ShardWriter, token_dtype, write_atomically
from codelm.errors import DataError, EnvironmentFailure, from_os_error

LENGTH = 48


def write(folder: Path, tokens: np.ndarray, pieces: int = 7, shard_bytes: int = 3000) -> ShardWriter:
    with ShardWriter(folder / "train" / "python", LENGTH, tokens.dtype, shard_bytes) as writer:
        for piece in np.array_split(tokens, pieces):
            writer.write(piece)
    return writer


@pytest.fixture
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 65_536, 100 * LENGTH + 13, dtype=np.uint16)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_rows_come_back_over_several_shards(tmp_path: Path, tokens: np.ndarray, dtype: type) -> None:
    tokens = tokens.astype(dtype)
    writer = write(tmp_path, tokens)
    reader = ShardReader(tmp_path, "train", "python")
    assert len(reader) == writer.samples == 100
    assert writer.leftover == 13
    assert len(writer.shards) > 3
    assert reader.dtype == dtype
    rows = np.stack([reader[index] for index in range(100)])
    np.testing.assert_array_equal(rows, tokens[: 100 * LENGTH].reshape(100, LENGTH))
    assert all(shard.bytes <= 3000 + 1000 for shard in writer.shards)


@given(st.lists(st.integers(0, 300), max_size=12), st.integers(1, 5000))
@settings(max_examples=60, deadline=None)
def test_the_pieces_of_the_stream_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    tokens = np.arange(sum(sizes), dtype=np.uint16)
    with ShardWriter(folder / "train" / "c", LENGTH, tokens.dtype, shard_bytes) as writer:
        for part in np.split(tokens, np.cumsum(sizes)):
            writer.write(part)
    reader = ShardReader(folder, "train", "c")
    assert [int(reader[i][0]) for i in range(len(reader))] == list(range(0, sum(sizes) // LENGTH * LENGTH, LENGTH))
    assert sum(shard.samples for shard in writer.shards) == len(reader)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_a_loss_mask_is_a_column_of_its_own_before_the_tokens(tmp_path: Path, dtype: type) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 60_000, (50, LENGTH)).astype(dtype)
    masks = rng.integers(0, 2, (50, LENGTH)).astype(np.uint8)
    with ShardWriter(tmp_path / "train" / "python", LENGTH, np.dtype(dtype), 3000, loss_mask=True) as writer:
        for part, mask in zip(np.array_split(rows, 3), np.array_split(masks, 3), strict=True):
            writer.write_rows(part, mask)
    assert len(writer.shards) > 2
    reader = ShardReader(tmp_path, "train", "python")
    found = reader.read(range(len(reader)))
    np.testing.assert_array_equal(found.tokens, rows)
    np.testing.assert_array_equal(found.loss_mask, masks)
    entry = json.loads((tmp_path / "train" / "python" / "index.json").read_text())["shards"][0]
    assert entry["column_names"] == ["loss_mask", "tokens"]
    assert entry["column_encodings"] == [f"ndarray:uint8:{LENGTH}", f"ndarray:{np.dtype(dtype)}:{LENGTH}"]
    assert entry["column_sizes"] == [LENGTH, LENGTH * np.dtype(dtype).itemsize]
    raw = (tmp_path / "train" / "python" / "shard.00000.mds").read_bytes()
    first, end = np.frombuffer(raw, "<u4", 2, offset=4)
    assert raw[first:end] == masks[0].tobytes() + rows[0].tobytes()


def test_the_same_tokens_give_the_same_bytes(tmp_path: Path, tokens: np.ndarray) -> None:
    write(tmp_path / "a", tokens, pieces=2)
    write(tmp_path / "b", tokens, pieces=31)
    for file in (tmp_path / "a" / "train" / "python").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / "train" / "python" / file.name).read_bytes()


def test_rows_are_aligned_read_only_and_the_reader_pickles(tmp_path: Path, tokens: np.ndarray) -> None:
    write(tmp_path, tokens)
    reader = ShardReader(tmp_path, "train", "python")
    row = reader[99]
    assert row.shape == (LENGTH,)
    assert row.flags.aligned
    assert not row.flags.writeable
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader))[99], row)
    assert len(pickle.dumps(reader)) < 5000


@pytest.mark.parametrize("index", [-1, 100, 10**12])
def test_indices_outside_are_refused(tmp_path: Path, tokens: np.ndarray, index: int) -> None:
    write(tmp_path, tokens)
    with pytest.raises(IndexError, match="of 100"):
        ShardReader(tmp_path, "train", "python")[index]


def test_a_stream_shorter_than_a_row_has_no_samples(tmp_path: Path) -> None:
    write(tmp_path, np.arange(LENGTH - 1, dtype=np.uint16))
    assert len(ShardReader(tmp_path, "train", "python")) == 0


def test_an_absent_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there are no shards at .*train/python .*data_prep/main\.py"):
        ShardReader(tmp_path, "train", "python")


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"shards": [{}]}', '{"shards": 7}', '{"shards": [{"raw_data": 1}]}']
)
def test_a_damaged_index_is_named(tmp_path: Path, tokens: np.ndarray, text: str) -> None:
    write(tmp_path, tokens)
    (tmp_path / "train" / "python" / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"index\.json is damaged"):
        ShardReader(tmp_path, "train", "python")


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_shard_is_named_on_opening(tmp_path: Path, tokens: np.ndarray, kept: int) -> None:
    writer = write(tmp_path, tokens)
    file = tmp_path / "train" / "python" / writer.shards[1].file
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"shard\.00001\.mds is truncated: .* instead of .*prepare the data again"):
        ShardReader(tmp_path, "train", "python")


def test_a_missing_shard_is_named_on_opening(tmp_path: Path, tokens: np.ndarray) -> None:
    writer = write(tmp_path, tokens)
    (tmp_path / "train" / "python" / writer.shards[0].file).unlink()
    with pytest.raises(DataError, match=r"shard\.00000\.mds is missing"):
        ShardReader(tmp_path, "train", "python")


def test_a_shard_with_another_header_is_named_on_reading(tmp_path: Path, tokens: np.ndarray) -> None:
    writer = write(tmp_path, tokens)
    file = tmp_path / "train" / "python" / writer.shards[0].file
    file.write_bytes(b"\x09" + file.read_bytes()[1:])
    with pytest.raises(DataError, match=r"does not hold the .* samples"):
        ShardReader(tmp_path, "train", "python")[0]


@pytest.mark.parametrize("change", [{"column_encodings": ["pkl"]}, {"format": "json"}, {"compression": "zstd"}])
def test_other_kinds_of_shards_are_refused(tmp_path: Path, tokens: np.ndarray, change: dict) -> None:
    write(tmp_path, tokens)
    file = tmp_path / "train" / "python" / "index.json"
    index = json.loads(file.read_text())
    index["shards"] = [{**shard, **change} for shard in index["shards"]]
    file.write_text(json.dumps(index))
    with pytest.raises(DataError, match="are not uncompressed MDS with one column"):
        ShardReader(tmp_path, "train", "python")


def test_the_dtype_follows_the_vocabulary() -> None:
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32


def test_a_full_disk_leaves_no_index(tmp_path: Path, tokens: np.ndarray) -> None:
    """/dev/full refuses every byte with the error of a full disk."""
    folder = tmp_path / "train" / "python"
    folder.mkdir(parents=True)
    (folder / ".shard.00001.mds.tmp").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path, tokens)
    assert isinstance(from_os_error(caught.value), EnvironmentFailure)
    assert "the disk is full" in str(from_os_error(caught.value))
    assert not (folder / "index.json").exists()
    assert not (folder / "shard.00001.mds").exists()


def test_atomic_writing_leaves_the_old_file_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_mosaicml_streaming_reads_our_shards_and_we_read_its(tmp_path: Path, tokens: np.ndarray) -> None:
    # mosaicml-streaming pins transformers < 5 and numpy < 2.2, so neither of our stacks can install it.
    streaming = pytest.importorskip("streaming", reason="mosaicml-streaming lives in an environment of its own")
    write(tmp_path, tokens)
    ours = ShardReader(tmp_path, "train", "python")
    dataset = streaming.StreamingDataset(
        local=str(tmp_path / "train" / "python"), shuffle=False, batch_size=1, validate_hash="sha256"
    )
    assert len(dataset) == len(ours)
    for index in range(len(ours)):
        np.testing.assert_array_equal(dataset[index]["tokens"], ours[index])
    rows = tokens[: 100 * LENGTH].reshape(100, LENGTH)
    out = tmp_path / "theirs" / "train" / "python"
    columns = {"tokens": f"ndarray:uint16:{LENGTH}"}
    with streaming.MDSWriter(out=str(out), columns=columns, size_limit=3000) as writer:
        for row in rows:
            writer.write({"tokens": row})
    theirs = ShardReader(tmp_path / "theirs", "train", "python")
    np.testing.assert_array_equal(np.stack([theirs[i] for i in range(len(theirs))]), rows)
