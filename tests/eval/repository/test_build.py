"""From a repository to its benchmark: which tests and functions are taken, and what the gates keep."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import load_problems
from codelm.errors import EvaluationError
from codelm.eval.repository import items, manifest
from codelm.eval.repository.build import build
from codelm.eval.repository.executable import open_doors
from codelm.eval.repository.settings import BuildSettings
from codelm.eval.sandbox.confine import Isolation


def rows_of(built, kind):
    _, rows = manifest.read(built.folder)
    return [row for row in rows if row["row"] == kind]


def test_only_tests_that_pass_every_time_judge(built):
    assert built.tests == {
        "passed every time": 9, "failed": 3, "flaky": 1, "ended the run": 2, "too slow": 1
    }  # fmt: skip


def test_every_trouble_is_one_sentence(built):
    said = "\n".join(built.troubles)
    assert "3 of 16 tests fail in the sandbox" in said
    assert "1 need the network" in said
    assert "tests/test_money.py::test_fails: " in said
    assert "1 need what the sandbox denies" in said
    assert "they end the process, or its group" in said
    assert "they took too long (the first is tests/test_trouble.py::test_hangs)" in said


def test_a_test_that_writes_into_the_repository_changes_nothing(built, shop):
    assert "ruined" not in (shop / "shop/names.py").read_text()
    assert not (shop / "left_behind.txt").exists()


def test_functions_that_tests_do_not_run_or_that_are_properties_are_no_candidates(built):
    assert built.candidates == 6
    assert built.functions == {"property": 1, "no test runs it": 1}


def test_a_function_whose_tests_notice_nothing_is_left_out(built):
    names = {row["name"] for row in rows_of(built, "function")}
    assert names == {"rounded", "total", "Till.cheapest", "initials"}
    assert built.gates["body"] == {"kept": 4, "a stub passes": 1, "cannot be kept out of training": 1}


def test_a_function_that_training_cannot_be_kept_from_is_left_out(built, tmp_path):
    """`Till.__init__` is too ordinary: no file is known by it."""
    needles = Needles.build(load_problems(str(built.folder / manifest.MANIFEST)))
    assert needles.uncovered == ()
    kept = sum(len(row["masks"]) for row in rows_of(built, "function"))
    assert sum(counts["kept"] for counts in built.gates.values()) == kept
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "imports.py").write_text("import os, sys, re, io\n" * 12)
    (tmp_path / "a" / "other.py").write_text("".join(f"shelf{n} = pallet{n}\n" for n in range(20)))
    bench = build(str(tmp_path / "a"), None, tmp_path / "bench", BuildSettings(held_out=1.0))
    assert [row["path"] for row in rows_of(bench, "file")] == ["other.py"]


def test_where_the_code_comes_from_is_recorded(built, shop, tmp_path):
    _, rows = manifest.read(built.folder)
    assert {(row["commit"], row.get("dirty")) for row in rows} == {(None, None)}
    assert built.summary()["dirty"] is False
    folder = shutil.copytree(shop, tmp_path / "shop-repository")
    (folder / ".gitignore").write_text("ignored/\n")
    shutil.copy(Path(__file__).parents[3] / "LICENSE", folder)
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()

    def recorded(name):
        about, rows = manifest.read(build(str(folder), None, tmp_path / name, BuildSettings()).folder)
        assert {row["commit"] for row in rows} == {about["settings"]["commit"]} == {commit}
        assert {row["licence"] for row in rows} == {about["settings"]["licence"]}
        assert {row.get("dirty", False) for row in rows} == {about["dirty"]}
        return about["dirty"]

    (folder / "ignored").mkdir()
    (folder / "ignored" / "built.so").write_text("x")
    assert not recorded("clean")
    assert manifest.read(tmp_path / "clean")[0]["settings"]["licence"] == "Apache-2.0"
    (folder / "new.txt").write_text("x")
    assert recorded("untracked")
    (folder / "new.txt").unlink()
    (folder / "LICENSE").rename(folder / "ignored" / "LICENSE")
    assert recorded("removed")
    (folder / "ignored" / "LICENSE").rename(folder / "LICENSE")
    assert not recorded("as it was")
    names = folder / "shop" / "names.py"
    names.write_text(names.read_text() + "\n")
    assert recorded("changed")


@pytest.mark.parametrize(
    ("isolation", "said"),
    [
        (Isolation("landlock", True, 6, True), None),
        (Isolation("rlimits", True, 6, False, ("no filter",)), "(no filter): they can use the network, and they can"),
        (Isolation("rlimits", True, 0, True, ("no Landlock",)), "(no Landlock): they can reach what their user may"),
    ],
)
def test_a_sandbox_with_open_doors_is_said_in_one_sentence(isolation, said):
    sentences = list(open_doors(isolation))
    assert len(sentences) == (said is not None)
    assert all(said in sentence for sentence in sentences)


def test_what_the_gates_found_is_recorded(built):
    (total,) = (row for row in rows_of(built, "function") if row["name"] == "total")
    body = total["masks"][0]
    assert body["covering"] == ["tests/test_money.py::test_total"]
    gates = body["gates"]
    assert gates["references"] == 3
    assert gates["stubs"] == ["pass", "return None", "raise NotImplementedError"]
    assert gates["killed"] >= gates["made"] / 2 > 0


def test_gaps_fit_their_files_to_the_character(built, shop):
    benchmark = items.load(built.folder, shop)
    assert {item.kind for item in benchmark.executable} == {"body", "block", "statement"}
    for item in benchmark.executable:
        assert item.prefix + item.gold + item.suffix == (shop / item.path).read_text()
        assert item.prefix.endswith("\n")
        assert item.gold.endswith("\n")


def test_context_of_other_files_shows_what_is_imported_but_no_tests(built, shop):
    (names,) = (row for row in rows_of(built, "function") if row["name"] == "initials")
    shown = {(snippet["why"], snippet["path"]) for snippet in names["context"]}
    assert ("import", "shop/money.py") in shown
    assert not any(path.startswith("tests/") for _, path in shown)
    (item, *_) = (item for item in items.load(built.folder, shop).executable if item.path == "shop/names.py")
    assert "# def total(prices, discount=0.0):" in item.prompt("repository")
    assert item.prompt("repository").endswith(item.prompt("file"))


def test_files_of_every_language_are_held_out(built):
    held = {row["language"]: row for row in rows_of(built, "file")}
    assert set(held) == {"javascript", "python"}
    kinds = [item["kind"] for item in held["javascript"]["items"]]
    assert kinds.count("line") == 5
    assert kinds.count("block") == 3


def test_the_same_command_again_runs_nothing(built, shop, settings, monkeypatch):
    monkeypatch.setattr("codelm.eval.repository.gates.mutants", None)
    monkeypatch.setattr("codelm.eval.repository.collect._run_chunk", None)
    before = (built.folder / manifest.MANIFEST).read_bytes()
    again = build(str(shop), sys.executable, built.folder, settings, workers=1)
    assert again.gates == built.gates
    assert (built.folder / manifest.MANIFEST).read_bytes() == before


def test_another_repository_or_setting_in_the_same_folder_is_refused(built, shop, settings):
    with pytest.raises(EvaluationError, match="repeats was 2, now 1"):
        build(str(shop), sys.executable, built.folder, replace(settings, repeats=1), workers=1)


def test_a_changed_manifest_is_refused(built, tmp_path):
    for name in (manifest.MANIFEST, manifest.BENCHMARK):
        (tmp_path / name).write_bytes((built.folder / name).read_bytes())
    with (tmp_path / manifest.MANIFEST).open("a") as file:
        file.write(json.dumps({"row": "function"}) + "\n")
    with pytest.raises(EvaluationError, match="is not the file that was built"):
        manifest.read(tmp_path)


def test_without_an_interpreter_only_texts_are_compared(shop, tmp_path):
    built = build(str(shop), None, tmp_path / "bench", BuildSettings())
    benchmark = items.load(built.folder, None)
    assert not benchmark.executable
    assert benchmark.textual
    assert built.troubles == ["no --python was given: nothing is judged by tests, only lines and blocks are compared"]


def test_a_share_that_draws_no_file_is_said_in_one_sentence(built, shop, settings, tmp_path):
    output = tmp_path / "bench"
    none = build(str(shop), sys.executable, output, replace(settings, share=0.0, repeats=1), workers=1)
    assert none.functions["left for training by --share"] == 6
    assert none.troubles[-1] == "--share 0 drew none of the files with candidates: raise it"


def test_a_repository_without_tests_is_said_in_one_sentence(laid_out, tmp_path):
    folder = laid_out(tmp_path / "bare", {"bare.py": "def f(x):\n    y = x\n    return y\n"})
    built = build(str(folder), sys.executable, tmp_path / "bench", BuildSettings(), workers=1)
    assert [trouble[:44] for trouble in built.troubles] == ["the repository has no tests that pytest find"]


def test_an_extension_that_is_not_built_is_said_in_one_sentence(laid_out, tmp_path):
    files = {
        "fast/__init__.py": "from fast._speedups import add\n",
        "tests/test_fast.py": "import fast\n\ndef test_add():\n    assert fast.add(1, 2) == 3\n",
    }
    folder = laid_out(tmp_path / "fast-repository", files)
    built = build(str(folder), sys.executable, tmp_path / "bench", BuildSettings(), workers=1)
    assert built.troubles[0].startswith("tests cannot import fast: if it has an extension that must be compiled, build")


@pytest.mark.parametrize(
    ("python", "said"),
    [("/nowhere/python", "is no interpreter"), ("/bin/true", "does not run as a Python 3 interpreter")],
)
def test_an_interpreter_that_is_none_is_refused_before_anything_is_written(shop, tmp_path, python, said):
    with pytest.raises(EvaluationError, match=said):
        build(str(shop), python, tmp_path / "bench", BuildSettings())
    assert not (tmp_path / "bench").exists()
