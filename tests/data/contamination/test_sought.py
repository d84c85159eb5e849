"""What a corpus was searched for: recorded, said where something cannot be found, and compared before it is reused."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from codelm.config.data import DataConfig
from codelm.data.contamination.sought import Sought, hashes_of
from codelm.data.manifest import load_manifest, save_manifest
from codelm.data.prepare import prepare, prepare_tokenizer
from codelm.errors import DataError

ORDINARY = {"benchmark": "toolz", "task_id": "utils.py::first", "prompt": "def f(x):", "canonical_solution": "return x"}
TELLING = {
    "benchmark": "toolz",
    "task_id": "utils.py::feed",
    "prompt": "def feed(penguin_colony, mackerel_bucket):",
    "canonical_solution": "return zookeeper.feed_hungry(penguin_colony, mackerel_bucket, schedule='morning')",
}


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    file = tmp_path / "manifest.jsonl"
    file.write_text(f"{json.dumps(ORDINARY)}\n{json.dumps(TELLING)}\n")
    return file


@pytest.fixture
def config(data_config: Callable[..., DataConfig], code_folder: Path, tmp_path: Path, bench: Path) -> DataConfig:
    """A small corpus, with a file that holds a problem."""
    shutil.copytree(code_folder / "json", tmp_path / "code")
    (tmp_path / "code" / "zoo.py").write_text("\n".join((TELLING["prompt"], f"    {TELLING['canonical_solution']}")))
    sources = {"code": {"path": str(tmp_path / "code")}}
    return data_config(sources=sources, decontamination={"benchmarks": ["humaneval", str(bench)]})


def test_it_is_in_the_manifest_the_log_and_the_report(
    config: DataConfig, bench: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        manifest = prepare(config).manifest
    assert manifest.sought is not None
    humaneval, mine = manifest.sought
    assert (humaneval.given, humaneval.problems, humaneval.uncovered) == ("humaneval", {"humaneval": 164}, ())
    assert mine == Sought(str(bench), hashes_of([str(bench)])[str(bench)], {"toolz": 2}, ("toolz utils.py::first",))
    assert list(manifest.contamination) == ["toolz"]
    warning = (
        f"1 of 2 problems of {bench} are too short or too ordinary to be told from other code, and are not kept out:"
        " toolz utils.py::first"
    )
    assert [record.getMessage() for record in caplog.records] == [f"decontamination: {warning}"]
    page = Path(config.output_folder, "report.html").read_text()
    assert warning in page
    assert "Looked for: humaneval (164 problems), toolz (2 problems)." in page
    assert load_manifest(config.output_folder) == manifest


def test_a_benchmark_that_was_built_anew_is_kept_out_again(config: DataConfig, bench: Path) -> None:
    made = prepare(config)
    assert prepare(config).reused
    bench.write_text(f"{json.dumps(TELLING)}\n")
    with pytest.raises(DataError, match=f"holds a finished corpus that an earlier {bench} was kept out of: that file"):
        prepare(config)
    save_manifest(replace(made.manifest, sought=None), made.folder)
    assert prepare(config).reused, "an older corpus does not say"
    bench.unlink()
    assert prepare(config).reused, "what is finished needs the file no more"


def test_the_same_holds_half_way(config: DataConfig, bench: Path) -> None:
    prepare_tokenizer(config)
    bench.write_text(f"{json.dumps(TELLING)}\n")
    with pytest.raises(DataError, match=f"holds a half-finished corpus that an earlier {bench} was kept out of"):
        prepare(config)


def test_an_older_manifest_does_not_say(config: DataConfig) -> None:
    made = prepare(config)
    fields = json.loads((made.folder / "manifest.json").read_text())
    del fields["sought"]
    (made.folder / "manifest.json").write_text(json.dumps(fields))
    assert load_manifest(made.folder) == replace(made.manifest, sought=None)


def test_many_are_counted_and_a_few_are_named() -> None:
    warning = Sought("b.jsonl", "", {"b": 9}, tuple(f"b {number}" for number in range(7))).warning()
    assert warning is not None
    assert warning.endswith(": b 0, b 1, b 2, b 3, b 4 and 2 more")
