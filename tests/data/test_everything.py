"""All stages on all kinds of sources: killed at any moment, by other means, in other places, the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codelm.config.data import DataConfig
from codelm.data.manifest import load_manifest
from codelm.data.prepare import IN_SHARDS, STAGES, prepare, prepare_stage

Git = Callable[..., str]
STDLIB = Path(sysconfig.get_path("stdlib"))
PARTITION = 60_000
"""Bytes of a partition: a dozen of them."""

MIT = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software"
PROBLEM = '''def least_common_ancestor_of_hostile_nodes(tree, first, second):
    """ Return the deepest node of the given binary tree that has both of the named hostile nodes below it. """
'''
SOLUTION = """    while first != second:
        first, second = tree.parent(max(first, second)), min(first, second)
    return first
"""

PREPARE = """
import json, os, signal, sys
from codelm.config.data import DataConfig
from codelm.data.prepare import prepare
from codelm.errors import exit_on_error

output, moment, events = json.loads(sys.argv[1])["output_folder"], int(sys.argv[3]), 0

def count(event, arguments):
    global events
    opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    changes = event in ("os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
    makes = event == "os.mkdir" and not os.path.isdir(arguments[0])
    # What is removed is named relative to an open folder.
    if (opens or changes or makes) and (str(arguments[0]).startswith(output) or not str(arguments[0]).startswith("/")):
        events += 1
        if events == moment:
            os.kill(os.getpid(), signal.SIGKILL)

@exit_on_error
def main():
    sys.addaudithook(count)
    prepare(DataConfig.model_validate(json.loads(sys.argv[1])), partition_bytes=int(sys.argv[2]))
    print(events)

if __name__ == "__main__":
    main()
"""
"""Prepares a corpus; about to do its n-th change to the output folder, it kills itself. Prints how many there were."""


def make_sources(folder: Path, git: Git) -> None:
    """Write the sources: folders of repositories, a git repository, rows, a hub's files, conversations, a benchmark."""
    for package in ("json", "xml"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(STDLIB / package, folder / "packages" / package, ignore=ignored)
    decoder = (STDLIB / "json" / "decoder.py").read_text()
    mine = folder / "packages" / "mine"
    mine.mkdir()
    (mine / "LICENSE").write_text(f"MIT License\n\nCopyright (c) 2020 A\n\n{MIT}, to deal in it without restriction.\n")
    (mine / "near.py").write_text(decoder.replace("JSONDecodeError", "DecodingError"))
    (mine / "copy.py").write_text(decoder)
    (mine / "problem.py").write_text(f"import os\n\n\n{PROBLEM}{SOLUTION}")
    (mine / "secret.py").write_text('KEY = "AKIAQ3EGRTMZVKDO4V7B"\nMAIL = "jane.doe@corp-mail.net"\nprint(KEY, MAIL)\n')
    (mine / "free.py").write_text("# SPDX-License-Identifier: GPL-3.0-only\nprint('a copyleft file, left out')\n")
    cells = [
        {"cell_type": "markdown", "metadata": {}, "source": ["# A notebook\n", "of several cells"]},
        {"cell_type": "code", "metadata": {}, "source": "print(1 + 1)", "outputs": [], "execution_count": 1},
    ]
    (mine / "book.ipynb").write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    (folder / "packages" / "refused").mkdir()
    (folder / "packages" / "refused" / "a.py").write_text("print('of an excluded repository')\n")

    project = folder / "project"
    project.mkdir()
    git(project, "init", "-q")
    for name in ("ast.py", "bisect.py", "calendar.py", "cmd.py", "codeop.py", "copy.py"):
        shutil.copy(STDLIB / name, project / name)
    git(project, "add", "-A")
    git(project, "commit", "-q", "-m", "all")

    texts = [
        (STDLIB / name).read_text() for name in ("csv.py", "dis.py", "fnmatch.py", "glob.py", "gzip.py", "hmac.py")
    ]
    rows = [
        {"content": text, "path": f"lib/{number}.py", "repository": f"rows/{number % 2}", "licence": ["MIT"]}
        for number, text in enumerate(texts)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + "{broken\n")
    hub = folder / "hub" / "data" / "python"
    hub.mkdir(parents=True)
    names = ("heapq.py", "imghdr.py", "keyword.py", "linecache.py", "locale.py", "lzma.py")
    table = {
        "content": [(STDLIB / name).read_text() for name in names],
        "max_stars_repo_path": list(names),
        "max_stars_repo_name": ["hub/a", "hub/b"] * 3,
        "max_stars_repo_licenses": [["MIT"], ["Apache-2.0"]] * 3,
        "lang": ["Python"] * 6,
    }
    pq.write_table(pa.table(table), hub / "part.parquet", row_group_size=2)
    asked = [
        {"prompt": f"Write line {number} of a module.\n", "response": decoder[number * 40 : number * 40 + 90]}
        for number in range(60)
    ]
    (folder / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (folder / "problems.jsonl").write_text(
        json.dumps({"task_id": "own/0", "prompt": PROBLEM, "canonical_solution": SOLUTION, "test": ""}) + "\n"
    )


def settings(folder: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """The configuration of all of it, as a dictionary that JSON can hold."""
    licence = {"licence": "PSF-2.0"}
    return {
        "run_name": "everything",
        "sources": {
            "packages": {"path": str(folder / "packages"), "repository_per_folder": True},
            "project": {"path": str(folder / "project"), **licence},
            "rows": {"name": "records", "files": [str(folder / "rows.jsonl")]},
            "hub": {"name": "hf", "hf_name": str(folder / "hub")},
            "asked": {"name": "instructions", "files": [str(folder / "asked.jsonl")]},
        },
        "exclude_repositories": ["ref*"],
        "licences": {"keep": "permissive", "unknown": "keep"},
        "decontamination": {"benchmarks": ["humaneval", str(folder / "problems.jsonl")]},
        "notebooks": "structured",
        "languages": ["python", "jupyter"],
        "max_bytes_per_language": 400_000,
        "split": {"by": "cluster", "validation": 0.1, "held_out": 0.1},
        "tokenizer": {"train": {"vocab_size": 420, "sample_bytes": 60_000}},
        "context": {"by_repository": True, "order": "dependency", "path_comments": 0.5},
        "packing": "best_fit",
        "max_seq_len": 128,
        "shard_bytes": 50_000,
        "output_folder": str(output),
        "num_workers": 1,
        **changes,
    }


def config(folder: Path, output: Path, **changes: Any) -> DataConfig:
    return DataConfig.model_validate(settings(folder, output, **changes))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, git: Git) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    make_sources(folder, git)
    return folder


class Runs:
    """Preparations in processes of their own, at one place, and what an uninterrupted one leaves there."""

    def __init__(self, folder: Path, sources: Path) -> None:
        self.output, self.sources = folder / "output", sources
        self._script = folder / "prepare.py"
        self._script.write_text(PREPARE)
        begun = time.monotonic()
        self.changes = int(self.run(1, 0)[1])
        self.seconds = time.monotonic() - begun
        self.expected = contents(self.output)
        shutil.rmtree(self.output)

    def start(self, workers: int, moment: int, **variables: str) -> subprocess.Popen[bytes]:
        asked = json.dumps(settings(self.sources, self.output, num_workers=workers))
        return subprocess.Popen(
            [sys.executable, str(self._script), asked, str(PARTITION), str(moment)],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def run(self, workers: int, moment: int, **variables: str) -> tuple[int, bytes]:
        process = self.start(workers, moment, **variables)
        printed, _ = process.communicate()
        return process.returncode, printed

    def finish(self, workers: int) -> None:
        """Run to the end, compare, and leave the place empty."""
        if not (self.output / "manifest.json").exists() or (self.output / ".work").exists():
            assert self.run(workers, 0)[0] == 0
        assert contents(self.output) == self.expected
        shutil.rmtree(self.output)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, sources: Path) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"), sources)


def test_every_stage_and_source_has_a_part_in_it(runs: Runs) -> None:
    """Else the tests below would say less than they seem to."""
    assert prepare(config(runs.sources, runs.output), partition_bytes=PARTITION).manifest == load_manifest(runs.output)
    manifest = load_manifest(runs.output)
    shutil.rmtree(runs.output)
    assert set(manifest.dropped["python"]) >= {
        "duplicate", "near_duplicate", "licence", "evaluation_problems", "over_limit",
    }  # fmt: skip
    assert set(manifest.dropped["other"]) >= {"excluded_repository", "not_json"}
    assert set(manifest.secrets["python"]) >= {"aws", "email"}
    assert set(manifest.contamination) == {"problems"}
    assert all("python" in manifest.splits[split] for split in ("train", "validation", "held_out"))
    train = manifest.splits["train"]
    assert set(train) == {"python", "jupyter", "instructions"}
    assert set(train["python"].sources) == {"packages", "project", "rows", "hub"}
    assert train["python"].padding > 0
    assert manifest.by_source["packages"]["dropped"]["licence"] > 0
    assert manifest.by_source["rows"]["dropped"]["not_json"] > 0
    for found, by_language in (("dropped", manifest.dropped), ("secrets", manifest.secrets)):
        of_sources = sum(sum(of[found].values()) for of in manifest.by_source.values())
        assert of_sources == sum(sum(counted.values()) for counted in by_language.values())
    for stream in (stream for split in manifest.splits.values() for stream in split.values()):
        licences = sum((Counter(share.licences) for share in stream.sources.values()), Counter[str]())
        assert licences == stream.licences


def killed_by_changes(runs: Runs, kills: int, seed: int) -> None:
    """Each run is killed when it is about to make its n-th change to the output folder."""
    draw = random.Random(seed)
    for _ in range(kills):
        code, _ = runs.run(1, draw.randrange(1, runs.changes + 1))
        assert code in (0, -signal.SIGKILL)
        if code == 0:  # what was left to do was less than that
            runs.finish(1)
    runs.finish(1) if runs.output.exists() else None


def killed_by_the_clock(runs: Runs, kills: int, seed: int) -> None:
    """Each run is killed, with its two workers, after a time."""
    draw = random.Random(seed)
    for _ in range(kills):
        process = runs.start(2, 0)
        try:
            process.communicate(timeout=draw.uniform(0.3, 1.3) * runs.seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        else:
            assert process.returncode == 0
            runs.finish(2)
    runs.finish(2) if runs.output.exists() else None


@pytest.mark.slow
def test_killed_twice_it_ends_in_the_same_bytes(runs: Runs) -> None:
    killed_by_changes(runs, kills=2, seed=1)


@pytest.mark.slow
def test_killed_at_20_random_changes_it_ends_in_the_same_bytes(runs: Runs) -> None:
    killed_by_changes(runs, kills=20, seed=2)


@pytest.mark.slow
def test_killed_at_20_random_times_with_its_workers_it_ends_in_the_same_bytes(runs: Runs) -> None:
    killed_by_the_clock(runs, kills=20, seed=3)


@pytest.mark.slow
def test_killed_at_each_of_the_last_changes_it_ends_in_the_same_bytes(runs: Runs) -> None:
    """Between the manifest's rename and the work folder's end lies the one moment when both are there."""
    for moment in range(runs.changes - 12, runs.changes + 1):
        assert runs.run(1, moment)[0] == -signal.SIGKILL
        runs.finish(1)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_and_hash_seeds_change_nothing(runs: Runs, workers: int) -> None:
    assert runs.run(workers, 0, PYTHONHASHSEED=str(workers), LC_ALL="C", TZ="Asia/Tokyo")[0] == 0
    runs.finish(workers)


def test_jobs_of_a_cluster_leave_the_same_bytes(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every stage in three parts, the last part first, as an array of jobs may run them."""
    monkeypatch.setattr("codelm.data.prepare.cpu_count", lambda: 1)  # no processes of their own: that is slow
    asked = config(runs.sources, runs.output)
    for stage in STAGES:
        for shard in (2, 1, 0) if stage in IN_SHARDS else (0,):
            prepare_stage(asked, stage, shard, 3, partition_bytes=PARTITION)
    prepare(asked)
    assert contents(runs.output) == runs.expected
    shutil.rmtree(runs.output)


def test_the_same_sources_elsewhere_give_the_same_shards(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named from another working folder, too. The manifest and the report say where the sources were."""
    shutil.copytree(runs.sources, tmp_path / "moved", symlinks=True)
    monkeypatch.chdir(tmp_path)
    prepare(config(Path("moved"), tmp_path / "output"), partition_bytes=PARTITION)
    there = contents(tmp_path / "output")
    assert there.keys() == runs.expected.keys()
    changed = {name for name in there if there[name] != runs.expected[name]}
    # Conversations, and other rows without a path, are named by their place.
    lists = {name for name in there if name.endswith("instructions/documents.jsonl")}
    assert changed <= {"manifest.json", "report.html", *lists}
    manifests = [json.loads(found["manifest.json"]) for found in (there, runs.expected)]
    assert manifests[0]["hash"] == manifests[1]["hash"]
