"""Datasets of the Hugging Face hub: The Stack's layout in a folder, and through huggingface_hub from a small hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from codelm.config.data import DataConfig
from codelm.data.documents import Counts, Document
from codelm.data.sources.contents import blob_id
from codelm.data.sources.dispatch import list_files, read_documents
from codelm.data.store import load_plan, partition, save_plan
from codelm.errors import DataError

STACK = pa.schema(
    [
        ("hexsha", pa.string()),
        ("size", pa.int64()),
        ("ext", pa.string()),
        ("lang", pa.string()),
        *[
            field
            for event in ("stars", "issues", "forks")
            for field in (
                (f"max_{event}_repo_path", pa.string()),
                (f"max_{event}_repo_name", pa.string()),
                (f"max_{event}_repo_head_hexsha", pa.string()),
                (f"max_{event}_repo_licenses", pa.list_(pa.string())),
                (f"max_{event}_count", pa.float64()),
                (f"max_{event}_repo_{event}_event_min_datetime", pa.string()),
                (f"max_{event}_repo_{event}_event_max_datetime", pa.string()),
            )
        ],
        ("content", pa.string()),
        ("avg_line_length", pa.float64()),
        ("max_line_length", pa.int64()),
        ("alphanum_fraction", pa.float64()),
    ]
)
"""The columns of bigcode/the-stack-dedup."""


def stack_row(content: str, path: str, lang: str, licences: list[str] | None = None) -> dict[str, Any]:
    return {
        "hexsha": blob_id(content.encode()),
        "size": len(content),
        "ext": path.rpartition(".")[2],
        "lang": lang,
        "max_stars_repo_path": path,
        "max_stars_repo_name": "octo/cat",
        "max_stars_repo_head_hexsha": "c" * 40,
        "max_stars_repo_licenses": licences if licences is not None else ["MIT"],
        "max_stars_count": 3.0,
        "content": content,
    }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """C++ in two files of several row groups, Python in one, notebooks, and a language beyond the 20."""
    folder = tmp_path_factory.mktemp("hub") / "stack"
    files = {
        "c++/data-00000": [stack_row(f"int first_{n}();\n", f"src/a{n}.h", "C++") for n in range(50)],
        "c++/data-00001": [stack_row(f"int second_{n}();\n", f"b{n}.cpp", "C++") for n in range(50)],
        "python/data-00000": [stack_row("name = 1\n", "a.py", "Python", ["MIT", "Apache-2.0"])],
        "jupyter-notebook/data-00000": [
            stack_row(
                json.dumps({"cells": [{"cell_type": "code", "source": "print()"}]}), "n.ipynb", "Jupyter Notebook"
            )
        ],
        "brainfuck/data-00000": [stack_row("+" * 100, "a.bf", "Brainfuck")],
    }
    for name, rows in files.items():
        (folder / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        table = pa.Table.from_pylist(rows, schema=STACK)
        pq.write_table(table, folder / "data" / f"{name}-of-00002.parquet", row_group_size=20)
    (folder / "README.md").write_text("about")
    return folder


def read(hf_name: object, tmp_path: Path, languages: list[str] | None = None, **source: Any) -> Any:
    """Every document of one source, read through saved plans of single parts, and what was dropped."""
    config = DataConfig.model_validate(
        {
            "run_name": "x",
            "sources": {"stack": {"name": "hf", "hf_name": str(hf_name), **source}},
            "languages": languages,
            "tokenizer": {"path": "unused"},
            "max_seq_len": 8,
            "output_folder": "unused",
        }
    )
    counts = Counts()
    documents: list[Document] = []
    for plan in partition(list_files(config, counts), 1):
        save_plan(plan, tmp_path / "plan.json")
        for repository, parts in load_plan(tmp_path / "plan.json"):
            assert repository.kind == "records"
            found = read_documents(repository, parts, config.filters, counts)
            documents += [document for _, document in found if document is not None]
    return documents, counts.to_dict()


def test_the_stacks_layout_in_a_folder(stack: Path, tmp_path: Path) -> None:
    documents, dropped = read(stack, tmp_path)
    assert dropped == {}
    assert [(d.language, d.path) for d in documents[:2]] == [("python", "a.py"), ("cpp", "src/a0.h")]
    assert [d.path for d in documents[1:101]] == [f"src/a{n}.h" for n in range(50)] + [f"b{n}.cpp" for n in range(50)]
    assert documents[-1].language == "jupyter"
    assert documents[-1].text == "# %%\nprint()\n"
    python = documents[0]
    assert (python.repository, python.commit, python.licence) == ("octo/cat", "c" * 40, "Apache-2.0 AND MIT")
    assert python.blob == blob_id(b"name = 1\n")


def test_chosen_languages_alone_are_listed(stack: Path, tmp_path: Path) -> None:
    documents, _ = read(stack, tmp_path, languages=["python"])
    assert [document.path for document in documents] == ["a.py"]


@pytest.mark.parametrize("limit", [1, 30, 50, 70, 1000])
def test_a_limit_holds_for_each_language(stack: Path, tmp_path: Path, limit: int) -> None:
    documents, _ = read(stack, tmp_path, limit_per_language=limit)
    languages = [document.language for document in documents]
    assert (languages.count("cpp"), languages.count("python")) == (min(limit, 100), 1)


def test_a_folder_without_any_language_is_named(stack: Path, tmp_path: Path) -> None:
    sentence = r"sources\.stack: .*stack has no Parquet files in elsewhere/markdown, nor of another language; check"
    with pytest.raises(DataError, match=sentence):
        read(stack, tmp_path, data_dir="elsewhere/{language}")
    with pytest.raises(DataError, match=r"there is no folder .*nowhere; give hf_name a dataset's id, or a folder"):
        read(tmp_path / "nowhere", tmp_path)


def test_a_dataset_without_the_column_is_named(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no column `code`; it has hexsha, size, ext, lang, max_stars_repo_path"):
        read(stack, tmp_path, columns={"text": "code"})


COMMIT = "d" * 40
"""Of which the small hub says that it is `main`."""


@pytest.fixture(scope="module")
def serving(serve_hub: Any, stack: Path) -> Iterator[Any]:
    with serve_hub(stack) as hub:
        yield hub


@pytest.fixture
def hub(serving: Any) -> Any:
    """The small hub, open to all, that nobody asked anything yet."""
    serving.gated = False
    serving.asked.clear()
    return serving


def test_a_dataset_is_streamed_from_the_hub(hub: Any, stack: Path, tmp_path: Path) -> None:
    expected = [(d.path, d.text, d.licence) for d in read(stack, tmp_path)[0]]
    assert [(d.path, d.text, d.licence) for d in read("octo/stack", tmp_path)[0]] == expected
    assert not any("brainfuck" in asked and "resolve" in asked for asked in hub.asked)


def test_only_the_columns_in_use_and_their_parts_are_fetched(hub: Any, stack: Path, tmp_path: Path) -> None:
    read("octo/stack", tmp_path, languages=["python"])
    fetched = [asked for asked in hub.asked if "resolve" in asked]
    assert fetched
    assert all("python" in asked and "bytes=" in asked for asked in fetched)


def test_a_branch_is_read_at_the_commit_it_stands_for(hub: Any, tmp_path: Path) -> None:
    """So that a run which goes on tomorrow reads the same files."""
    config = {"name": "hf", "hf_name": "octo/stack", "revision": "main"}
    read("octo/stack", tmp_path, languages=["python"], revision=config["revision"])
    ((repository, _),) = load_plan(tmp_path / "plan.json")
    assert repository.root == f"hf://datasets/octo/stack@{COMMIT}"


def test_a_gated_dataset_is_named(hub: Any, tmp_path: Path) -> None:
    hub.gated = True
    with pytest.raises(
        DataError, match=r"octo/stack is gated on the Hugging Face hub: accept its conditions .* HF_TOKEN"
    ):
        read("octo/stack", tmp_path)


def test_an_absent_dataset_and_revision_are_named(hub: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the Hugging Face hub has no dataset octo/nothing, or it is private"):
        read("octo/nothing", tmp_path)
    with pytest.raises(DataError, match=r"octo/stack on the Hugging Face hub has no such `revision`"):
        read("octo/stack", tmp_path, revision="v9")


OFFLINE = """
from codelm.config.data import HubSource
from codelm.data.documents import Counts
from codelm.data.sources.hub import list_hub
from codelm.errors import DataError
try:
    list(list_hub("stack", HubSource(name="hf", hf_name="octo/stack"), None, Counts()))
except DataError as error:
    print(error)
"""


def test_offline_is_respected(hub: Any) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": constants.ENDPOINT}
    result = subprocess.run([sys.executable, "-c", OFFLINE], env=environment, capture_output=True, text=True)
    assert result.stdout.startswith(
        "octo/stack is on the Hugging Face hub, which HF_HUB_OFFLINE forbids to reach; unset it, or give hf_name"
    )
    assert hub.asked == []


def test_a_hub_that_is_out_of_reach_is_named(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"hf://datasets/octo/stack is out of reach .*run it again when the network"):
        read("octo/stack", tmp_path)
