"""What runs in the repository's interpreter: the copy that is put back, and the tracer of lines."""

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest

from codelm.eval.repository.guest.lines import _Monitoring, _Tracing
from codelm.eval.repository.guest.tree import Tree

PROGRAM = """\
def double(values):
    result = []
    for value in values:
        result.append(2 * value)
    return result

def untouched():
    return 1
"""


@pytest.fixture
def tree(tmp_path):
    pristine = tmp_path / "pristine"
    (pristine / "pkg" / "__pycache__").mkdir(parents=True)
    (pristine / "pkg" / "a.py").write_text("one = 1\n")
    (pristine / "pkg" / "b.py").write_text("two = 2\n")
    (pristine / "pkg" / "__pycache__" / "a.cpython-311.pyc").write_bytes(b"compiled")
    (pristine / "link.py").symlink_to("pkg/a.py")
    (pristine / "pkg" / "data").mkdir(mode=0o750)
    (tmp_path / "stash").mkdir()
    return Tree(str(pristine), str(tmp_path / "copy"), str(tmp_path / "stash"), None)


def contents(folder):
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else stat.S_IMODE(path.stat().st_mode)
        for path in [Path(folder), *sorted(Path(folder).rglob("*"))]
    }


def test_a_splice_takes_away_what_was_there_and_what_was_compiled_of_it(tree):
    tree.splice({"pkg/a.py": "one = 3\n"})
    files = {path: what for path, what in contents(tree.folder).items() if not isinstance(what, int)}
    assert files == {"link.py": "pkg/a.py", "pkg/a.py": b"one = 3\n", "pkg/b.py": b"two = 2\n"}
    assert tree.restore() == 0
    assert contents(tree.folder) == contents(tree.pristine)


@pytest.mark.parametrize(
    ("ruin", "changed"),
    [
        (lambda copy: (copy / "pkg/b.py").write_text("two = 5\n"), 1),
        (lambda copy: (copy / "pkg/b.py").unlink(), 1),
        (lambda copy: (copy / "new.py").write_text("x"), 1),
        (lambda copy: (copy / "pkg/__pycache__/b.cpython-311.pyc").write_bytes(b"x"), 1),
        (lambda copy: (copy / "link.py").unlink(), 1),
        (lambda copy: [os.rename(copy / "pkg", copy / "moved"), os.symlink("/etc", copy / "pkg")], 3),
        (lambda copy: [(copy / "pkg/a.py").unlink(), (copy / "pkg/a.py").mkdir(), (copy / "pkg/a.py/x").touch()], 1),
        (lambda copy: os.chmod(copy / "pkg/b.py", 0), 1),
        (lambda copy: os.chmod(copy / "pkg", 0), 1),
        (lambda copy: os.chmod(copy / "pkg", 0o400), 1),
        (lambda copy: os.chmod(copy, 0o500), 1),
        (lambda copy: (copy / "out/deep").mkdir(parents=True), 2),
        (lambda copy: [(copy / "out").mkdir(), (copy / "out/x").touch(), os.chmod(copy / "out", 0o500)], 2),
        (lambda copy: (copy / "pkg/data").rmdir(), 1),
        (lambda copy: shutil.rmtree(copy / "pkg"), 4),
    ],
    ids=[
        "changed",
        "removed",
        "made",
        "compiled",
        "link",
        "moved folder",
        "file now folder",
        "closed",
        "closed folder",
        "folder that is only listed",
        "closed top",
        "empty folders",
        "read-only folder",
        "removed folder",
        "all removed",
    ],
)
def test_whatever_a_job_does_is_undone(tree, ruin, changed):
    tree.splice({"pkg/a.py": "one = 3\n"})
    ruin(Path(tree.folder))
    assert tree.restore() >= changed
    assert contents(tree.folder) == contents(tree.pristine)
    assert tree.restore() == 0


def test_a_change_that_hides_its_time_is_seen(tree):
    path = Path(tree.folder, "pkg/b.py")
    before = path.stat()
    path.write_text("two = 7\n")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert tree.restore() == 1
    assert path.read_text() == "two = 2\n"


TRACERS = [
    pytest.param(lambda folder: _Tracing(folder), id="settrace"),
    pytest.param(
        lambda folder: _Monitoring(folder, 4),
        id="monitoring",
        marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="needs Python 3.12"),
    ),
]


@pytest.mark.parametrize("tracer_of", TRACERS)
def test_the_lines_of_each_stretch_are_told_by_file(tmp_path, tracer_of):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    namespace = {}
    exec(compile(PROGRAM, str(path), "exec"), namespace)
    previous = sys.gettrace()
    tracer = tracer_of(str(tmp_path))
    try:
        tracer.start()
        namespace["double"]([1, 2, 3])
        first = tracer.stop()
        tracer.start()
        namespace["double"]([])
        second = tracer.stop()
    finally:
        sys.settrace(previous)
    assert first == {"program.py": [2, 3, 4, 5]}
    assert second == {"program.py": [2, 3, 5]}
