"""Packing: every token of every document is in a row, in order; rows are filled well; figures say what was not."""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.packing.best_fit import best_fit
from codelm.data.packing.pack import GOES_ON, PackTask, pack_stream, stream_info
from codelm.data.packing.packers import BestFitPacker, ConcatPacker, Figures, TokenDocument
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.shards import ShardWriter

EOS = 1
LENGTH = 16


def make_documents(lengths: list[list[int]]) -> list[TokenDocument]:
    """Documents of files of so many tokens each; all tokens but the ends are different numbers."""
    documents, token = [], 2
    for number, files in enumerate(lengths):
        tokens = np.arange(token, token + sum(files), dtype=np.uint32)
        tokens[-1] = EOS
        token += sum(files)
        fields = [{"path": f"{number}/{i}", "bytes": 3 * count, "tokens": count} for i, count in enumerate(files)]
        documents.append(TokenDocument(tokens, fields))
    return documents


def pack(folder: Path, documents: list[TokenDocument], mode: str, **options: int) -> tuple[Figures, np.ndarray, list]:
    """The figures, the rows (n, LENGTH), and the lines of documents.jsonl."""
    lines = io.StringIO()
    with ShardWriter(folder / "train" / "c", LENGTH, np.dtype(np.uint32), 1000) as writer:
        packer = ConcatPacker(writer, lines) if mode == "concat" else BestFitPacker(writer, lines, EOS, **options)
        for document in documents:
            packer.add(document)
        packer.finish()
    reader = ShardReader(folder, "train", "c")
    rows = np.array([reader[i] for i in range(len(reader))], dtype=np.uint32).reshape(-1, LENGTH)
    return packer.figures, rows, [json.loads(line) for line in lines.getvalue().splitlines()]


DOCUMENTS = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=3), max_size=30)


@given(DOCUMENTS, st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_best_fit_keeps_every_token_of_every_file_in_order(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]], window: int
) -> None:
    documents = make_documents(lengths)
    folder = tmp_path_factory.mktemp("rows")
    figures, rows, lines = pack(folder, documents, "best_fit", window_pieces=window)
    stream = rows.reshape(-1)
    expected = {}
    for document in documents:
        ends = np.cumsum([fields["tokens"] for fields in document.files])
        for fields, part in zip(document.files, np.split(document.tokens, ends[:-1]), strict=True):
            expected[fields["path"]] = part
    found: dict[str, list[Any]] = {}
    for line in sorted(lines, key=lambda line: line.get("part", 0)):
        end = line["start"] + line["tokens"]
        assert line["start"] // LENGTH == (end - 1) // LENGTH, "a piece is in one row"
        assert line.get("part", 0) == len(found.setdefault(line["path"], []))
        found[line["path"]].append(stream[line["start"] : end])
    assert {path: np.concatenate(parts).tolist() for path, parts in found.items()} == {
        path: part.tolist() for path, part in expected.items()
    }
    starts = [line["start"] for line in lines]
    assert starts == sorted(starts)
    # What no line names is padding, at the ends of rows only.
    named = np.zeros(len(stream), dtype=bool)
    for line in lines:
        assert not named[line["start"] : line["start"] + line["tokens"]].any()
        named[line["start"] : line["start"] + line["tokens"]] = True
    assert (stream[~named] == EOS).all()
    assert (np.diff(named.reshape(-1, LENGTH).astype(int), axis=1) <= 0).all()
    assert figures.padding == (~named).sum()
    assert figures.tokens == sum(map(sum, lengths)) == named.sum()
    assert figures.files == sum(map(len, lengths))
    assert figures.bytes == 3 * figures.tokens
    assert figures.cut_documents == sum(sum(files) > LENGTH for files in lengths)


@given(DOCUMENTS)
@settings(max_examples=25, deadline=None)
def test_concat_is_one_stream_up_to_its_last_whole_row(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]]
) -> None:
    documents = make_documents(lengths)
    figures, rows, lines = pack(tmp_path_factory.mktemp("rows"), documents, "concat")
    stream = np.concatenate([np.empty(0, np.uint32), *(document.tokens for document in documents)])
    assert rows.reshape(-1).tolist() == stream[: len(stream) // LENGTH * LENGTH].tolist()
    assert [line["start"] for line in lines] == [0, *np.cumsum([line["tokens"] for line in lines])[:-1].tolist()][
        : len(lines)
    ]
    ends = np.cumsum([sum(files) for files in lengths], dtype=int)
    cut = [(end - sum(files)) // LENGTH != (end - 1) // LENGTH for end, files in zip(ends, lengths, strict=True)]
    assert (figures.tokens, figures.padding, figures.cut_documents) == (len(stream), 0, sum(cut))


@given(st.lists(st.integers(1, 64), max_size=200))
def test_no_row_overflows_and_no_two_rows_would_fit_into_one(lengths: list[int]) -> None:
    rows = best_fit(np.array(lengths, dtype=np.int64), 64)
    filled = np.bincount(rows, weights=lengths, minlength=0)
    assert (filled <= 64).all()
    assert (filled > 0).all()
    # Two rows that are half full would have become one.
    assert (filled <= 32).sum() <= 1


def first_fit(lengths: list[int], capacity: int) -> int:
    rooms: list[int] = []
    for length in lengths:
        row = next((row for row, room in enumerate(rooms) if room >= length), None)
        if row is None:
            rooms.append(capacity - length)
        else:
            rooms[row] -= length
    return len(rooms)


def test_best_fit_wastes_less_than_first_fit_and_cuts_less_than_concat(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(1, LENGTH + 1, 600).tolist()
    rows = int(best_fit(np.array(lengths), LENGTH).max()) + 1
    assert sum(lengths) / LENGTH <= rows < first_fit(lengths, LENGTH)
    documents = make_documents([[length] for length in lengths])
    concat, _, _ = pack(tmp_path / "concat", documents, "concat")
    best, packed, _ = pack(tmp_path / "best", documents, "best_fit")
    assert best.cut_documents == 0 < 150 < concat.cut_documents
    assert best.padding < 0.03 * packed.size


def test_rows_are_in_the_order_of_their_first_documents(tmp_path: Path) -> None:
    """So that the first rows are no sample of long documents only."""
    _, rows, lines = pack(tmp_path, make_documents([[4], [16], [9], [3], [7], [12], [5]]), "best_fit")
    firsts = [int(row[0]) for row in rows]
    assert firsts == sorted(firsts)
    assert [line["path"] for line in lines] == ["0/0", "5/0", "1/0", "2/0", "4/0", "3/0", "6/0"]


def write_partition(folder: Path, name: str, documents: list[TokenDocument], masks: list[np.ndarray] | None) -> None:
    folder.mkdir()
    with (folder / f"{name}.jsonl").open("w") as lines:
        for document in documents:
            for number, fields in enumerate(document.files, 1):
                more = {GOES_ON: True} if number < len(document.files) else {}
                lines.write(json.dumps({**fields, **more}) + "\n")
    tokens = np.concatenate([document.tokens for document in documents])
    (folder / f"{name}.tokens").write_bytes(tokens.astype(np.uint16).tobytes())
    if masks is not None:
        (folder / f"{name}.mask").write_bytes(np.concatenate(masks).astype(np.uint8).tobytes())


def pack_partitions(tmp_path: Path, partitions: list[tuple[list, list | None]], packing: Any = "concat") -> dict:
    folders = []
    for number, (documents, masks) in enumerate(partitions):
        folders.append(tmp_path / f"tokens{number}")
        write_partition(folders[-1], "train.c", documents, masks)
    task = PackTask(
        name="train.c",
        tokens=tuple(folders),
        output=tmp_path / "out" / "train" / "c",
        summary=tmp_path / "summary.json",
        scratch=tmp_path / "scratch",
        max_seq_len=LENGTH,
        dtype="uint16",
        shard_bytes=10_000,
        packing=packing,
        eos_id=EOS,
    )
    pack_stream(task)
    return json.loads(task.summary.read_text())


def stored_columns(folder: Path) -> tuple[dict, np.ndarray, np.ndarray]:
    """The index entry of the one shard, its masks and its tokens, read from the bytes as MDS lays them out."""
    entry = json.loads((folder / "index.json").read_text())["shards"][0]
    raw = (folder / "shard.00000.mds").read_bytes()
    count = int.from_bytes(raw[:4], "little")
    offsets = np.frombuffer(raw, "<u4", count + 1, offset=4)
    masks, tokens = [], []
    for first, end in itertools.pairwise(offsets.tolist()):
        assert end - first == sum(entry["column_sizes"])
        masks.append(np.frombuffer(raw[first : first + LENGTH], np.uint8))
        tokens.append(np.frombuffer(raw[first + LENGTH : end], np.uint16))
    return entry, np.array(masks), np.array(tokens)


def test_a_stream_with_a_loss_mask_is_packed_best_fit_with_a_second_column(tmp_path: Path) -> None:
    asked, plain = make_documents([[6], [12], [40], [20]]), make_documents([[3]])
    masks = [np.zeros(len(document.tokens), np.uint8) for document in asked]
    masks[0][3:] = 1
    masks[1][5:] = 1
    masks[2][20:] = 1  # all of it beyond the first row
    masks[3][14:] = 1
    summary = pack_partitions(tmp_path, [(asked, masks), (plain, None)])
    folder = tmp_path / "out" / "train" / "c"
    entry, stored, tokens = stored_columns(folder)
    assert entry["column_names"] == ["loss_mask", "tokens"]
    assert entry["column_encodings"] == [f"ndarray:uint8:{LENGTH}", f"ndarray:uint16:{LENGTH}"]
    assert entry["column_sizes"] == [LENGTH, 2 * LENGTH]
    lines = [json.loads(line) for line in (folder / "documents.jsonl").read_text().splitlines()]
    for line in lines:
        number, row, offset = int(line["path"][0]), *divmod(line["start"], LENGTH)
        whole = (asked, plain)[line["tokens"] == 3][number]
        mask = np.ones(3) if line["tokens"] == 3 else masks[number]
        np.testing.assert_array_equal(tokens[row, offset : offset + line["tokens"]], whole.tokens[: line["tokens"]])
        np.testing.assert_array_equal(stored[row, offset : offset + line["tokens"]], mask[: line["tokens"]])
        assert "part" not in line
    assert stored.sum() == 3 + 7 + 2 + 3, "padding has no loss"
    assert sorted(line["tokens"] for line in lines) == [3, 6, 12, LENGTH]
    assert (summary["truncated"], summary["left_out"], summary["lost_tokens"]) == (1, 1, 40 + 4)
    assert (summary["files"], summary["tokens"]) == (4, 6 + 12 + LENGTH + 3)
    assert summary["samples"] * LENGTH == summary["tokens"] + summary["padding"]


def test_the_files_of_a_repository_stay_together(tmp_path: Path) -> None:
    documents = make_documents([[5, 4, 3], [4]])
    summary = pack_partitions(tmp_path, [(documents, None)], packing="best_fit")
    lines = [json.loads(line) for line in (tmp_path / "out/train/c/documents.jsonl").read_text().splitlines()]
    assert [(line["path"], line["start"]) for line in lines] == [("0/0", 0), ("0/1", 5), ("0/2", 9), ("1/0", 12)]
    assert not any(GOES_ON in line for line in lines)
    assert stream_info(summary).files == 4


def test_packing_again_changes_nothing(tmp_path: Path) -> None:
    pack_partitions(tmp_path, [(make_documents([[20], [3]]), None)])
    before = {path.name: path.read_bytes() for path in (tmp_path / "out/train/c").iterdir()}
    task = PackTask("train.c", (), tmp_path / "out/train/c", tmp_path / "s", tmp_path / "t", LENGTH, "uint16", 9)
    pack_stream(task)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out/train/c").iterdir()} == before
