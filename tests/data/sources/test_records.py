"""Rows of JSON Lines and Parquet to documents: what is kept, what is counted, what ends a run in one sentence."""

import gzip
import json
import os
import random
import sysconfig
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.config.data import DataConfig
from codelm.data.documents import Counts, Document, FileEntry
from codelm.data.prepare import prepare
from codelm.data.sources import jsonl, parquet
from codelm.data.sources.contents import blob_id
from codelm.data.sources.dispatch import list_files, read_documents
from codelm.data.sources.remote_files import FoundFile
from codelm.data.store import load_plan, partition, save_plan
from codelm.errors import DataError, EnvironmentFailure

STDLIB = Path(sysconfig.get_path("stdlib"))


def read(*files: object, part_bytes: int = 1 << 20, tmp_path: Path | None = None, **source: Any) -> Any:
    """Every document of one source, and what was dropped; through saved plans where `tmp_path` is given."""
    filters = source.pop("filters", {})
    languages, excluded = source.pop("languages", None), source.pop("exclude_repositories", [])
    config = DataConfig.model_validate(
        {
            "run_name": "x",
            "sources": {"mine": {"name": "records", "files": [str(file) for file in files], **source}},
            "filters": filters,
            "languages": languages,
            "tokenizer": {"path": "unused"},
            "max_seq_len": 8,
            "output_folder": "unused",
        }
    )
    counts = Counts()
    documents: list[Document] = []
    for plan in partition(list_files(config, counts), part_bytes):
        if tmp_path is not None:
            save_plan(plan, tmp_path / "plan.json")
            assert load_plan(tmp_path / "plan.json") == plan
        for repository, parts in plan:
            found = read_documents(
                repository, parts, config.filters, counts, languages=languages, exclude_repositories=excluded
            )
            documents += [document for _, document in found if document is not None]
    return documents, counts.to_dict()


def rows(count: int = 3) -> list[dict[str, Any]]:
    return [
        {"content": f"def f{n}():\n    return {n}\n", "path": f"src/f{n}.py", "repository": "a/b", "commit": f"{n:040}"}
        for n in range(count)
    ]


def write_jsonl(path: Path, values: list[Any]) -> Path:
    path.write_bytes(b"".join(v if isinstance(v, bytes) else json.dumps(v).encode() + b"\n" for v in values))
    return path


def write_parquet(path: Path, values: list[dict[str, Any]], group: int = 1000, **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(values, **options), path, row_group_size=group)
    return path


# What a row becomes


@pytest.mark.parametrize("write", [write_jsonl, write_parquet])
def test_a_row_is_a_file(tmp_path: Path, write: Any) -> None:
    values = [{**row, "licence": "MIT"} for row in rows()]
    file = write(tmp_path / ("x.jsonl" if write is write_jsonl else "x.parquet"), values)
    documents, dropped = read(file, tmp_path=tmp_path)
    assert dropped == {}
    for row, document in zip(values, documents, strict=True):
        assert (document.text, document.path, document.repository) == (row["content"], row["path"], "a/b")
        assert (document.commit, document.licence, document.language) == (row["commit"], "MIT", "python")
        assert document.blob == blob_id(row["content"].encode())


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_columns_are_mapped_and_absent_ones_are_unknown(tmp_path: Path, ending: str) -> None:
    values = [{"code": "name_x = 1\n", "lang": "Python", "id": 7}, {"code": "int x;\n", "lang": "c++", "id": 8}]
    write = write_jsonl if ending == "jsonl" else write_parquet
    file = write(tmp_path / f"x.{ending}", values)
    documents, _ = read(file, columns={"text": "code", "language": "lang"}, licence="MIT", repository="given")
    assert [d.language for d in documents] == ["python", "cpp"]
    assert {(d.repository, d.commit, d.licence) for d in documents} == {("given", None, "MIT")}
    second = json.dumps(values[0]).__len__() + 1 if ending == "jsonl" else 1
    assert [d.path for d in documents] == [f"{file}#0", f"{file}#{second}"]


@pytest.mark.parametrize(
    ("source", "row", "language"),
    [
        ({}, {"path": "a.rs"}, "rust"),
        ({}, {"path": "a.rs", "language": "TypeScript"}, "typescript"),
        ({}, {"language": "Jupyter Notebook", "content": '{"cells": []}'}, None),
        ({}, {"language": "jsx"}, "jsx"),
        ({"language": "sql"}, {"path": "a.rs", "language": "Rust"}, "sql"),
        ({}, {"language": "Brainfuck", "path": "a.py"}, None),
        ({}, {"path": "a.exe"}, None),
        ({}, {}, None),
    ],
)
def test_the_language_is_the_sources_or_the_columns_or_the_extensions(
    tmp_path: Path, source: dict, row: dict, language: str | None
) -> None:
    file = write_jsonl(tmp_path / "x.jsonl", [{"content": "let x = 1;\n", **row}])
    documents, _ = read(file, **source)
    assert [document.language for document in documents] == ([language] if language else [])


def test_rows_of_languages_that_were_not_chosen_are_counted(tmp_path: Path) -> None:
    values = [*rows(2), {"content": "int x;\n", "path": "a.c"}]
    documents, dropped = read(write_jsonl(tmp_path / "x.jsonl", values), languages=["c"])
    assert [document.language for document in documents] == ["c"]
    assert dropped == {"python": {"language_not_chosen": 2}}


def test_excluded_repositories_give_no_rows(tmp_path: Path) -> None:
    values = [{**row, "repository": name} for row, name in zip(rows(3), ("a/b", "a/c", "x/b"), strict=True)]
    for file in (write_jsonl(tmp_path / "x.jsonl", values), write_parquet(tmp_path / "x.parquet", values)):
        documents, dropped = read(file, exclude_repositories=["a/*"])
        assert [document.repository for document in documents] == ["x/b"]
        assert dropped == {"python": {"excluded_repository": 2}}


def test_the_rules_on_paths_and_contents_hold_for_rows(tmp_path: Path) -> None:
    values = [
        {"content": "name_x = 1\n", "path": "node_modules/a.py", "repository": None},
        {"content": "name_x = 1\n", "path": "a_pb2.py"},
        {"content": "name_x = 1\n", "path": "human_eval/data.py"},
        {"content": "name_x = 1\n", "path": "a.py", "repository": "openai/human-eval"},
        {"content": " \n", "path": "a.py"},
        {"content": "name_x = '" + "a" * 2000 + "'\n", "path": "a.py"},
        {"content": "name_x = 1\n" * 50_000, "path": "a.py"},
        {"content": "name_x = 1\0\n", "path": "a.py"},
        {"content": "name_x = 2\n", "path": "a.py"},
    ]
    for file in (write_jsonl(tmp_path / "x.jsonl", values), write_parquet(tmp_path / "x.parquet", values)):
        documents, dropped = read(file, filters={"max_file_bytes": 10_000})
        assert [document.text for document in documents] == ["name_x = 2\n"]
        assert dropped["python"] == {
            "binary": 1,
            "empty": 1,
            "evaluation_problems": 2,
            "generated": 1,
            "long_line": 1,
            "too_large": 1,
            "vendored": 1,
        }


@pytest.mark.parametrize("path", ["", ".", "/", "./", "..", "  ", None])
def test_a_path_that_names_nothing_is_none(tmp_path: Path, path: str | None) -> None:
    file = write_jsonl(tmp_path / "x.jsonl", [{"content": "name_x = 1\n", "path": path, "language": "python"}])
    (document,), _ = read(file)
    assert document.path == f"{file}#0" or path == "  "


def test_all_licences_of_a_list_hold(tmp_path: Path) -> None:
    lists = [["MIT"], ["MIT", "Apache-2.0", "MIT"], [], None, [None, "MIT"]]
    values = [{"content": f"name_x = {n}\n", "path": "a.py", "licence": names} for n, names in enumerate(lists)]
    for file in (write_jsonl(tmp_path / "x.jsonl", values), write_parquet(tmp_path / "x.parquet", values)):
        documents, _ = read(file, licence="Unlicense")
        expected = ["MIT", "Apache-2.0 AND MIT", "Unlicense", "Unlicense", "MIT"]
        assert [document.licence for document in documents] == expected


# Bad rows


def test_bad_rows_of_json_lines_are_counted(tmp_path: Path) -> None:
    good = rows(1)[0]
    bad = {
        "not_json": [b"{\n", b"nonsense\n", b"[" * 100_000 + b"\n", b'{"content": 1' + b"0" * 5000 + b"}\n"],
        "not_utf8": [b'{"content": "caf\xe9"}\n', b'{"content": "\\ud83d", "path": "a.py"}\n', b"\xff\xfe{\n"],
        "wrong_type": [
            b"[]\n",
            b"7\n",
            b"null\n",
            {**good, "content": 7},
            {**good, "content": ["x"]},
            {**good, "path": 1},
        ],
        "no_text": [{"path": "a.py"}, {**good, "content": None}],
        "too_large": [{**good, "content": "x" * 2_000_000}],
    }
    values = [good, *(row for several in bad.values() for row in several), b"\n", b"  \r\n", good]
    documents, dropped = read(
        write_jsonl(tmp_path / "x.jsonl", values), language="python", filters={"max_file_bytes": 1000}
    )
    assert len(documents) == 2
    assert dropped == {"python": {reason: len(several) for reason, several in sorted(bad.items())}}


def test_bad_rows_of_parquet_are_counted(tmp_path: Path) -> None:
    latin = pa.array([b"caf\xe9", b"name_x = 1\n", None, b"name_x = 2\n", b"name_x = 3\n"], pa.binary()).view(
        pa.string()
    )
    licences = pa.array([["MIT"], None, ["MIT"], [None], []], pa.list_(pa.string()))
    paths = pa.array([b"a.py", b"b.py", b"c.py", b"caf\xe9.py", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"content": latin, "path": paths, "licence": licences}), tmp_path / "x.parquet")
    documents, dropped = read(tmp_path / "x.parquet", language="python")
    assert [document.text for document in documents] == ["name_x = 1\n", "name_x = 3\n"]
    assert dropped == {"python": {"no_text": 1, "not_utf8": 2}}


def test_a_column_of_another_type_makes_bad_rows(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", [{"content": "name_x = 1\n", "path": 7}])
    assert read(file, language="python") == ([], {"python": {"wrong_type": 1}})


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.string())]
)
def test_texts_of_every_type_are_read(tmp_path: Path, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"content": pa.array(["name_é = 1\n"]).cast(kind)}), tmp_path / "x.parquet")
    (document,), _ = read(tmp_path / "x.parquet", language="python")
    assert document.text == "name_é = 1\n"


# Files that end the run


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["nowhere.jsonl"], r"sources\.mine\.files: there is no file .*nowhere\.jsonl"),
        (["*.parquet"], r"sources\.mine\.files: there is no file .*\*\.parquet"),
        (["nothing/"], r"there is no file .*nothing"),
        (["notes.txt"], r"notes\.txt ends in none of \.jsonl, .*; rename or convert it"),
        (["pipe.jsonl"], r"pipe\.jsonl is no regular file"),
    ],
)
def test_absent_and_unfit_files_are_named(tmp_path: Path, files: list[str], sentence: str) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "notes.txt").write_text("x")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(DataError, match=sentence):
        read(*(tmp_path / name for name in files))


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    values = [{"text": "name_x = 1\n", "lang": "python"}]
    with pytest.raises(DataError, match=r"columns\.text: .*x\.parquet has no column `content`; it has text, lang"):
        read(write_parquet(tmp_path / "x.parquet", values))
    with pytest.raises(DataError, match=r"x\.jsonl have no field `content`; they have lang, text"):
        read(write_jsonl(tmp_path / "x.jsonl", values))
    with pytest.raises(DataError, match=r"the column `content` of .*y\.parquet holds list<.*>, not text"):
        read(write_parquet(tmp_path / "y.parquet", [{"content": ["x"]}]))


def test_a_truncated_parquet_file_is_named(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "whole.parquet", rows(500), group=100).read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.parquet").write_bytes(whole[:size])
        with pytest.raises(
            DataError, match=r"cut\.parquet cannot be read \(.*\); if it is damaged or incomplete, fetch"
        ):
            read(tmp_path / "cut.parquet")


def test_damage_inside_a_parquet_file_is_named(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", rows(500), group=100)
    whole = bytearray(file.read_bytes())
    whole[1000:3000] = bytes(2000)
    file.write_bytes(whole)
    with pytest.raises(DataError, match=r"x\.parquet cannot be read \([^\n]*\); if it is damaged"):
        read(file)


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_truncated_compressed_file_is_named(tmp_path: Path, ending: str) -> None:
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows(5000))
    packed = gzip.compress(lines) if ending == "gz" else pa.compress(lines, "zstd", asbytes=True)
    file = tmp_path / f"x.jsonl.{ending}"
    file.write_bytes(packed)
    assert len(read(file)[0]) == 5000
    for damaged in (packed[: len(packed) // 2], packed[:-9] + bytes(9), b"no such thing"):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match=r"x\.jsonl\.\w+ cannot be read"):
            read(file)


def test_a_truncated_json_file_loses_its_last_row(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "x.jsonl", rows(3))
    file.write_bytes(file.read_bytes()[:-10])
    documents, dropped = read(file)
    assert len(documents) == 2
    assert dropped == {"other": {"not_json": 1}}


def test_a_protocol_whose_package_is_absent_names_it() -> None:
    with pytest.raises(EnvironmentFailure, match=r"reading gs://x/y\.jsonl needs a package .*gcsfs"):
        read("gs://x/y.jsonl")
    with pytest.raises(DataError, match="carrier://pigeon cannot be read"):
        read("carrier://pigeon")


def test_a_file_that_is_found_damaged_late_leaves_nothing_behind(
    tmp_path: Path, data_config: Callable[..., DataConfig]
) -> None:
    """The footer is whole, so only reading the rows, in a worker, finds the damage."""
    file = write_parquet(tmp_path / "x.parquet", rows(5000), group=1000)
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 3000] = bytes(3000)
    file.write_bytes(whole)
    config = data_config(
        sources={"mine": {"name": "records", "files": [str(file)]}}, num_workers=2, output_folder=str(tmp_path / "out")
    )
    with pytest.raises(DataError, match=r"x\.parquet cannot be read"):
        prepare(config)
    assert not (tmp_path / "out").exists()


def test_rows_become_a_corpus(tmp_path: Path, data_config: Callable[..., DataConfig]) -> None:
    files = [path for path in sorted(STDLIB.glob("*.py")) if path.stat().st_size < 100_000][:40]
    values = [
        {"content": path.read_text(errors="replace"), "path": path.name, "repository": "cpython"} for path in files
    ]
    for name in ("x.jsonl", "x.parquet"):
        write = write_jsonl if name == "x.jsonl" else write_parquet
        source = {"name": "records", "files": [str(write(tmp_path / name, values))], "licence": "PSF-2.0"}
        config = data_config(
            sources={"mine": source},
            secrets={"policy": "off", "personal": "off"},
            dedup={"near": None},
            output_folder=str(tmp_path / f"out.{name}"),
        )
        manifest = prepare(config, partition_bytes=200_000).manifest
        assert manifest.splits["train"]["python"].samples > 100
    shards = [sorted((tmp_path / f"out.{name}").rglob("shard.*")) for name in ("x.jsonl", "x.parquet")]
    assert [path.read_bytes() for path in shards[0]] == [path.read_bytes() for path in shards[1]]


# Parts


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    ends=st.booleans(),
    size=st.integers(1, 40),
)
def test_cutting_a_file_loses_and_repeats_no_line(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool, size: int
) -> None:
    file = tmp_path_factory.getbasetemp() / "lines.jsonl"
    contents = b"\n".join(lines) + (b"\n" if ends else b"")
    file.write_bytes(contents)
    parts, _ = jsonl.list_parts(FoundFile(str(file), len(contents)), None, part_bytes=size)
    assert sum(part.size for part in parts) == len(contents)
    read = [pair for part in parts for pair in jsonl.read_lines(part, 1000)]
    assert [line for _, line in read] == [
        piece for piece in (line + b"\n" for line in contents.split(b"\n")[:-1]) if piece.strip()
    ] + [line for line in [contents.split(b"\n")[-1]] if line.strip()]
    for offset, line in read:
        assert line is not None
        assert contents[offset : offset + len(line)] == line


def test_a_line_of_many_parts_is_read_once_and_a_giant_one_never(tmp_path: Path) -> None:
    values = [{"content": "name_x = 1\n" * 30_000, "path": "a.py"}, *rows(2)]
    file = write_jsonl(tmp_path / "x.jsonl", values)
    size = file.stat().st_size
    parts, _ = jsonl.list_parts(FoundFile(str(file), size), None, part_bytes=10_000)
    assert next(len(line or b"") for part in parts for _, line in jsonl.read_lines(part, size)) > 200_000
    lines = [line for part in parts for _, line in jsonl.read_lines(part, 1000)]
    assert [line is None for line in lines] == [True, False, False]


@pytest.mark.parametrize("part_bytes", [1, 1000, 1 << 30])
def test_the_bounds_of_partitions_do_not_change_the_documents(tmp_path: Path, part_bytes: int) -> None:
    draw = random.Random(0)
    values = [{"content": f"name_x = {n}\n" * draw.randrange(1, 3000), "path": f"{n}.py"} for n in range(300)]
    files = [write_jsonl(tmp_path / "x.jsonl", values), write_parquet(tmp_path / "x.parquet", values, group=7)]
    documents, _ = read(*files, part_bytes=part_bytes)
    assert [document.text for document in documents] == [row["content"] for row in values] * 2


def test_a_parquet_file_is_cut_at_row_groups(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "x.parquet", [{"content": f"{n:099}\n"} for n in range(100)], group=10)
    found = FoundFile(str(file), file.stat().st_size)
    parts, total = parquet.list_parts(found, "content", "sources.x", None, part_bytes=3000)
    assert total == 100
    assert [(part.first, part.end) for part in parts] == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    numbers = [number for part in parts for number, _ in parquet.read_rows(part, ("content",))]
    assert numbers == list(range(100))


@pytest.mark.parametrize("limit", [1, 5, 10, 11, 15, 19, 20, 100])
@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_a_limit_takes_the_first_rows_over_all_files(tmp_path: Path, limit: int, ending: str) -> None:
    for number in range(2):
        values = [{"content": f"name_x = {number * 10 + n}\n", "path": "a.py"} for n in range(10)]
        if ending == "parquet":
            write_parquet(tmp_path / f"{number}.parquet", values, group=4)
        else:
            lines = b"\n".join(json.dumps(row).encode() + b"\n" for row in values)
            (tmp_path / f"{number}.{ending}").write_bytes(gzip.compress(lines) if ending.endswith("gz") else lines)
    documents, _ = read(tmp_path, limit=limit)
    assert [document.text for document in documents] == [f"name_x = {n}\n" for n in range(min(limit, 20))]


def test_files_come_in_the_order_given_then_of_names_and_once(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "b/10.jsonl", "a.jsonl", "b/c/1.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(tmp_path / name, [{"content": f"name_x = '{name}'\n", "path": "a.py"}])
    (tmp_path / "b" / "notes.txt").write_text("not rows")
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    documents, dropped = read(tmp_path / "b", tmp_path / "*.jsonl", tmp_path / "b" / "2.jsonl")
    assert [d.text for d in documents] == [
        f"name_x = '{n}'\n" for n in ("b/10.jsonl", "b/2.jsonl", "b/c/1.jsonl", "a.jsonl")
    ]
    assert dropped == {"other": {"special_file": 1}}


def test_a_file_whose_name_looks_like_a_pattern_is_found(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "x[1]*.jsonl", rows(1))
    assert len(read(file)[0]) == 1


def test_memory_does_not_grow_with_a_row_group(tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = [draw.randbytes(5_000).hex() + "\n" for _ in range(3000)]
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"content": texts}), file, compression="none", use_dictionary=False, write_batch_size=64)
    assert pq.ParquetFile(file).num_row_groups == 1
    assert file.stat().st_size > 30_000_000
    tracemalloc.start()
    assert sum(1 for _ in parquet.read_rows(FileEntry(str(file), 0), ("content",))) == 3000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


# Behind URLs


def test_rows_in_memory_are_read_through_fsspec(tmp_path: Path) -> None:
    files = fsspec.filesystem("memory")
    for name in ("x.jsonl", "x.parquet", "y.jsonl.gz"):
        local = tmp_path / name
        if name.endswith("parquet"):
            write_parquet(local, rows(5), group=2)
        else:
            write_jsonl(local, rows(5))
        contents = local.read_bytes()
        files.pipe(f"/rows/{name}", gzip.compress(contents) if name.endswith("gz") else contents)
    try:
        for pattern, count in {"memory://rows": 15, "memory://rows/*.jsonl": 5, "memory://rows/x.parquet": 5}.items():
            documents, _ = read(pattern, tmp_path=tmp_path)
            assert len(documents) == count
            assert [d.text for d in documents[:5]] == [row["content"] for row in rows(5)]
        with pytest.raises(DataError, match=r"there is no file memory://rows/z\.jsonl"):
            read("memory://rows/z.jsonl")
    finally:
        files.rm("/rows", recursive=True)


class _Ranges(BaseHTTPRequestHandler):
    """A folder over HTTP, with ranges, as object stores serve it."""

    folder: Path
    asked: list[str]

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        file = self.folder / self.path.split("?")[0].lstrip("/")
        if not file.is_file():
            self.send_error(404)
            return
        contents, span = file.read_bytes(), self.headers.get("Range")
        self.asked.append(f"{self.command} {span}")
        self.send_response(206 if span else 200)
        if span:
            first, last = span.removeprefix("bytes=").split("-")
            end = min(int(last) + 1 if last else len(contents), len(contents))
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(contents)}")
            contents = contents[int(first) : end]
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(contents)))
        self.end_headers()
        if body:
            self.wfile.write(contents)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The URL of `tmp_path`."""
    handler = type("Handler", (_Ranges,), {"folder": tmp_path, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_rows_are_read_over_http(tmp_path: Path, served: str) -> None:
    values = [{"content": f"name_x = {n}\n" * 2000, "path": f"{n}.py"} for n in range(700)]
    write_jsonl(tmp_path / "x.jsonl", values)
    write_parquet(tmp_path / "x.parquet", values, group=100)
    for name in ("x.jsonl", "x.parquet", "x.jsonl?download=true"):
        documents, _ = read(f"{served}/{name}")
        assert [document.text for document in documents] == [row["content"] for row in values]
    with pytest.raises(DataError, match=r"there is no file http://.*/nowhere\.jsonl"):
        read(f"{served}/nowhere.jsonl")


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/x\.jsonl is out of reach"):
        read("http://127.0.0.1:9/x.jsonl")
