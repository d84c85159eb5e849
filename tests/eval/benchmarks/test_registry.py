"""Benchmarks: read from the files they are published in, judged as their tests allow, their references right."""

import gzip
import json
import os
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from codelm.config.evaluation.tasks import (
    CustomSection,
    HumanEvalPlusSection,
    HumanEvalSection,
    InfillingSection,
    MbppPlusSection,
    MbppSection,
    TaskSection,
    TasksSection,
)
from codelm.errors import EvaluationError
from codelm.eval.benchmarks.registry import load_benchmark, register
from codelm.eval.problem import Problem

ADD = {
    "text": "Write a function to add two numbers.",
    "code": "import math\r\ndef plus(a, b):\r\n    return a + b",
    "test_setup_code": "",
    "test_list": ["assert plus(1, 2) == 3", "assert plus(math.inf, 1) == math.inf"],
    "challenge_test_list": [],
}
NODE = {
    **ADD,
    "code": "class Node:\n    def __init__(self, data):\n        self.data = data\n\n"
    "def double(node):\n    return 2 * node.data",
    "test_setup_code": "root = Node(4)",
    "test_list": ["assert double(root) == 8"],
}
TYPE = {**ADD, "code": "def is_a(x, kind):\n    return isinstance(x, kind)", "test_list": ["assert is_a(1, int)"]}
MATCH = {**ADD, "code": "import re\ndef begins(x):\n    return re.match('a', x)", "test_list": ["assert begins('ab')"]}
CHECK = {**ADD, "code": "def check(x):\n    return x + 1", "test_list": ["assert check(1) == 2"]}


@pytest.fixture
def write(tmp_path):
    def write_file(name, rows):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif name.endswith(".json"):
            path.write_text(json.dumps(rows))
        else:
            text = "".join(json.dumps(row) + "\n" for row in rows).encode()
            path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
        return str(path)

    return write_file


def passes(pool, problem, completion):
    (verdict,) = pool.judge([problem.job(completion)])
    assert verdict.judge == problem.judge
    return verdict.passed


def test_mbpp_has_its_published_splits_and_incoders_prompt(write):
    path = write("mbpp.jsonl", [{**ADD, "task_id": number} for number in (601, 10, 11, 510, 511)])
    test = load_benchmark("mbpp", MbppSection(path=path)).problems
    assert [problem.task_id for problem in test] == ["MBPP/11", "MBPP/510"]
    assert load_benchmark("mbpp", MbppSection(path=path, split="all")).problems[0].task_id == "MBPP/10"
    assert test[0].prompt == '"""\nWrite a function to add two numbers.\nassert plus(1, 2) == 3\n"""\n'
    bare = load_benchmark("mbpp", MbppSection(path=path, tests_shown=0)).problems[0]
    assert bare.prompt == '"""\nWrite a function to add two numbers.\n"""\n'
    assert (test[0].form, test[0].entry_point) == ("program", "plus")


@pytest.mark.parametrize(
    ("row", "judge", "wrong"),
    [
        (ADD, "literal", "def plus(a, b):\n    return a - b\n"),
        (NODE, "in_process", NODE["code"].replace("2 *", "3 *")),
        (TYPE, "in_process", "def is_a(x, kind):\n    return False\n"),
        (MATCH, "in_process", "def begins(x):\n    return None\n"),
        (CHECK, "literal", "def check(x):\n    return x\n"),
    ],
    ids=["literals", "own classes", "a type", "a match", "called check"],
)
def test_mbpps_tests_run_apart_from_the_program_where_they_can(write, pool, row, judge, wrong):
    path = write("sanitized-mbpp.json", [{**row, "task_id": 11}])
    (problem,) = load_benchmark("mbpp", MbppSection(path=path)).problems
    assert problem.judge == judge
    assert passes(pool, problem, problem.gold)
    assert not passes(pool, problem, wrong)
    assert not passes(pool, problem, "import os\nos._exit(0)\n")
    assert not passes(pool, problem, "raise SystemExit(0)\n")


def test_infilling_puts_the_completion_between_prompt_and_suffix(write, pool):
    row = {
        "task_id": "SingleLineInfilling/HumanEval/0/L0",
        "entry_point": "f",
        "prompt": "def f(x):\n",
        "suffix": "    return y\n",
        "canonical_solution": "    y = 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(3) == 6\n",
    }
    span = {**row, "task_id": "RandomSpanInfilling/HumanEval/0/1"}
    path = write("HumanEval-SingleLineInfilling.jsonl.gz", [row, span])
    section = InfillingSection(path=os.path.dirname(path))
    line, other = load_benchmark("infilling", section).problems
    assert (line.lines, other.lines, line.form) == (1, None, "infill")
    assert passes(pool, line, line.gold)
    assert not passes(pool, line, "    y = 3 * x\n")


def plus_row(**changes):
    return {
        "task_id": "HumanEval/0",
        "prompt": 'def mean(xs):\n    """The mean."""\n',
        "entry_point": "mean",
        "canonical_solution": "    return sum(xs) / len(xs)\n",
        "base_input": [[[1.0, 2.0]]],
        "plus_input": [[[0.1, 0.2, 0.3]]],
        "atol": 0,
        **changes,
    }


WITH_NUMPY = """
import numpy as np

def assertion(out, exp, atol):
    assert out == exp or np.allclose(out, exp, rtol=1e-07, atol=atol)

def check(candidate):
    for inp, exp in zip([[[0.1, 0.2, 0.3]], [[1.0]]], [0.2, 1.0]):
        assertion(candidate(*inp), exp, 1e-06)
"""


@pytest.mark.parametrize("form", ["inputs", "tests"])
def test_humaneval_plus_is_what_the_reference_answers_within_its_tolerance(write, pool, form):
    row = plus_row()
    if form == "tests":
        del row["base_input"], row["plus_input"], row["atol"]
        row["test"] = WITH_NUMPY
    path = write("HumanEvalPlus.jsonl.gz", [row])
    (problem,) = load_benchmark("humaneval_plus", HumanEvalPlusSection(path=path)).problems
    assert passes(pool, problem, problem.gold)
    assert passes(pool, problem, "    return sum(x / len(xs) for x in xs)\n"), "another order of rounding"
    assert not passes(pool, problem, "    return xs[0] if len(xs) > 1 else sum(xs)\n")


def test_any_root_is_right(write, pool):
    row = plus_row(
        entry_point="find_zero",
        prompt='def find_zero(xs):\n    """A root."""\n',
        canonical_solution="    return -xs[0] / xs[1]\n",
        base_input=[[[1.0, 2.0]]],
        plus_input=[[[4.0, 0.0, -1.0]]],
        atol=1e-4,
    )
    path = write("HumanEvalPlus.jsonl", [row])
    (problem,) = load_benchmark("humaneval_plus", HumanEvalPlusSection(path=path)).problems
    for root in ("2.0", "-2.0"):
        assert passes(pool, problem, f"    return -0.5 if xs[1] else {root}\n")
    assert not passes(pool, problem, "    return -0.5\n")


def test_mbpp_plus_runs_its_script_against_the_program(write, pool):
    script = "inputs = [[1, 2], [5, -5]]\nresults = [3, 0]\nfor inp, exp in zip(inputs, results):\n"
    script += "    assert plus(*inp) == exp\n"
    row = {"task_id": 7, "code": ADD["code"], "prompt": ADD["text"], "test_list": ADD["test_list"], "test": script}
    path = write("mbppplus.parquet", [row])
    (problem,) = load_benchmark("mbpp_plus", MbppPlusSection(path=path)).problems
    assert (problem.task_id, problem.judge) == ("MBPP/7", "literal")
    assert passes(pool, problem, problem.gold)
    assert not passes(pool, problem, "def plus(a, b):\n    return 3\n")
    assert not passes(pool, problem, "def plus_(a, b):\n    return 3\n")


def test_mbpp_plus_without_types_is_refused(write):
    path = write("MbppPlus.jsonl", [plus_row()])
    with pytest.raises(EvaluationError, match="tuples and sets as lists"):
        load_benchmark("mbpp_plus", MbppPlusSection(path=path))


def test_a_benchmark_of_ones_own_is_a_function(tmp_path, monkeypatch, pool):
    (tmp_path / "my_benchmark.py").write_text(
        "from codelm.eval.problem import Problem\n"
        "def load(section):\n"
        "    test = 'def check(candidate):\\n    assert candidate() == 1\\n'\n"
        "    return [Problem(f'mine/{n}', 'def one():\\n', '    return 1\\n', entry_point='one', test=test)\n"
        "            for n in range(section.options['count'])]\n"
        "def nothing(section):\n    return 'nothing'\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    tasks = TasksSection.model_validate({"custom": {"mine": {"load": "my_benchmark:load", "options": {"count": 3}}}})
    benchmark = load_benchmark("mine", tasks.chosen()["mine"])
    assert [problem.task_id for problem in benchmark.problems] == ["mine/0", "mine/1", "mine/2"]
    assert passes(pool, benchmark.problems[0], benchmark.problems[0].gold)
    for load, message in (
        ("my_benchmark:nothing", "must return a list"),
        ("my_benchmark:absent", "cannot be imported"),
    ):
        with pytest.raises(EvaluationError, match=message):
            load_benchmark("mine", CustomSection(load=load))


def test_a_registered_benchmark_is_known_by_its_name():
    problem = Problem("only", "def f():\n")
    register("of_a_test", "Of a test", lambda section: [problem])
    assert load_benchmark("of_a_test", TaskSection()).problems == [problem]
    register("of_a_test", "Of a test", lambda section: [problem, problem])
    with pytest.raises(EvaluationError, match="the same task_id"):
        load_benchmark("of_a_test", TaskSection())


@pytest.mark.parametrize(
    ("section", "name", "message"),
    [
        (TaskSection(), "humanevl", "there is no benchmark humanevl: did you mean humaneval?"),
        (HumanEvalSection(path="absent.jsonl"), "humaneval", "there is no file absent.jsonl"),
        (InfillingSection(path=os.sep), "infilling", "there is no file /HumanEval-SingleLineInfilling.jsonl.gz"),
    ],
)
def test_what_is_not_there_is_named(section, name, message):
    with pytest.raises(EvaluationError, match=message.replace("?", r"\?")):
        load_benchmark(name, section)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mbpp.jsonl", b'{"task_id": 11}\n', "has no field `text` or `prompt`"),
        ("mbpp.jsonl", b"{torn\n", "cannot be read"),
        ("mbpp.jsonl.gz", b"no gzip", "cannot be read"),
        ("mbpp.parquet", b"no parquet", "cannot be read"),
        ("mbpp.csv", b"a,b\n", "is not a .jsonl"),
        ("mbpp.jsonl", b"\n", "holds no problems"),
        ("mbpp.json", b'{"a": 1}', "holds no problems"),
        ("mbpp.jsonl", json.dumps({**ADD, "task_id": 700}).encode(), "no problems; choose another file or split"),
        ("mbpp.jsonl", json.dumps({**ADD, "task_id": "x"}).encode(), "is no number of MBPP"),
    ],
)
def test_a_damaged_file_is_one_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=message) as error:
        load_benchmark("mbpp", MbppSection(path=str(path)))
    assert "tasks.mbpp" in str(error.value)


def test_without_a_network_the_hubs_data_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EvaluationError, match=r"cannot be had from the hub .*; download the file and give its path"):
        load_benchmark("mbpp", MbppSection())


@pytest.mark.usefixtures("hub_out_of_reach")
@pytest.mark.parametrize("path", ["hf://datasets/octo/stack", "hf://datasets/octo/stack/full/test-0.parquet"])
def test_a_hub_that_is_out_of_reach_is_named(path):
    with pytest.raises(EvaluationError, match=r"path: hf://datasets/octo/stack.* cannot be had from the hub \(\w+: "):
        load_benchmark("mbpp", MbppSection(path=path))


GAP = {
    "entry_point": "f",
    "prompt": "def f(x):\n",
    "suffix": "    return y\n",
    "canonical_solution": "    y = 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(3) == 6\n",
}


def test_benchmarks_come_from_the_hub(write, serve_hub, tmp_path):
    for variant, number in (("full", 11), ("sanitized", 12), ("sanitized", 13)):
        write(f"{variant}/test-{number}.parquet", [{**ADD, "task_id": number}])
    for kind in ("SingleLineInfilling", "RandomSpanInfilling", "RandomSpanInfillingLight"):
        write(f"HumanEval-{kind}.jsonl.gz", [{**GAP, "task_id": f"{kind}/HumanEval/0/L0"}])

    def found(name, section):
        return [problem.task_id for problem in load_benchmark(name, section).problems]

    with serve_hub(tmp_path) as hub:
        dataset = "hf://datasets/octo/stack"
        assert found("mbpp", MbppSection(path=dataset)) == ["MBPP/12", "MBPP/13"]
        assert found("mbpp", MbppSection(path=dataset, variant="full")) == ["MBPP/11"]
        assert found("mbpp", MbppSection(path=f"{dataset}/sanitized/test-13.parquet")) == ["MBPP/13"]
        for variant, kind in (("single-line", "SingleLineInfilling"), ("random-span", "RandomSpanInfilling")):
            gaps = InfillingSection.model_validate({"path": dataset, "variant": variant})
            assert found("infilling", gaps) == [f"{kind}/HumanEval/0/L0"]
        with pytest.raises(EvaluationError, match=r"path: hf://datasets/octo/stack has no file of HumanEval-MultiLine"):
            found("infilling", InfillingSection(path=dataset, variant="multi-line"))
        hub.gated = True
        write("prompt/test-1.parquet", [{**ADD, "task_id": 1}])
        with pytest.raises(EvaluationError, match=r"cannot be had from the hub \(\w+: "):
            found("mbpp", MbppSection(path=f"{dataset}/prompt/test-1.parquet"))
