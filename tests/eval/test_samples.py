"""Anyone's completions: every harness's file, malformed lines, and `eval/judge.py` from file to verdicts."""

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from codelm.errors import EvaluationError
from codelm.eval.samples import read_samples, samples_hash

RECIPE = Path(__file__).parents[2] / "eval" / "judge.py"


@pytest.fixture
def write(tmp_path):
    def write_file(*rows, name="samples.jsonl"):
        path = tmp_path / name
        text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
        return path

    return write_file


def judge(*arguments):
    command = [sys.executable, str(RECIPE), "--benchmark", "humaneval", "--workers", "1", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["samples.jsonl", "samples.jsonl.gz"])
def test_human_evals_and_our_own_lines(write, problems, name):
    first, second = problems[:2]
    path = write(
        {"task_id": first.task_id, "completion": "a"},
        {"task_id": second.task_id, "completion": "b"},
        {"task_id": first.task_id, "completion": "c"},
        {"task_id": first.task_id, "text": "\nd", "left_to_model": "\n", "reason": "length", "ids": [1]},
        name=name,
    )
    assert read_samples(path, problems).samples == [
        (first.task_id, 0, "a", True),
        (second.task_id, 0, "b", True),
        (first.task_id, 1, "c", True),
        (first.task_id, 2, "d", False),
    ]


def test_whole_programs_lose_the_prompt_that_they_begin_with(write, problems):
    first, second = problems[:2]
    bigcode = write(
        json.dumps([[first.prompt.strip() + "\n    x"], [second.prompt + "y", "z"]]), name="generations.json"
    )
    assert [sample[2] for sample in read_samples(bigcode, problems).samples] == ["    x", "y", "\nz"]
    evalplus = write({"task_id": second.task_id, "solution": second.prompt + "y"})
    assert read_samples(evalplus, problems).samples == [(second.task_id, 0, "y", True)]
    multipl_e = write({"name": first.task_id, "completions": ["1", "2"]})
    assert [sample[1:3] for sample in read_samples(multipl_e, problems).samples] == [(0, "1"), (1, "2")]


@pytest.mark.parametrize("ending", ["json", "json.gz"])
def test_multipl_es_folder_has_a_file_for_each_problem_and_verdicts_that_are_none(write, problems, tmp_path, ending):
    for number, problem in enumerate(problems[:2]):
        row = {"name": problem.task_id, "prompt": problem.prompt, "completions": [f"{number}a", f"{number}b"]}
        path = write(json.dumps(row, indent=1), name=f"HumanEval_{number}.{ending}")
        write({"name": problem.task_id, "results": []}, name=f"HumanEval_{number}.results.{ending}")
    expected = [(p.task_id, n, f"{number}{'ab'[n]}", True) for number, p in enumerate(problems[:2]) for n in (0, 1)]
    assert read_samples(tmp_path, problems).samples == expected
    before = samples_hash(tmp_path)
    assert samples_hash(tmp_path) == before != samples_hash(path)
    write({"name": "torn"}, name=f"HumanEval_1.results.{ending}")
    assert samples_hash(tmp_path) == before, "verdicts are no samples"
    write('{"name": "torn', name=f"HumanEval_1.{ending}")
    assert samples_hash(tmp_path) != before
    found = read_samples(tmp_path, problems)
    assert found.samples == expected[:2]
    assert found.complaint() == f"1 samples were left out: {path}: no JSON object"


def test_bad_lines_are_left_out_and_named(write, problems):
    path = write(
        {"task_id": problems[0].task_id, "completion": "a"},
        '{"task_id": "HumanEval/1", "compl',
        {"task_id": "HumanEval/999", "completion": "b"},
        {"task_id": problems[1].task_id, "completion": 7},
        {"task_id": problems[1].task_id},
        "[1]",
    )
    found = read_samples(path, problems)
    assert [sample[2] for sample in found.samples] == ["a"]
    assert [reason.split(": ", 1)[1] for reason in found.left_out] == [
        "no JSON object",
        "there is no problem 'HumanEval/999'",
        "a completion that is no text",
        "no `completion`, `completions` or `solution`",
        "no JSON object",
    ]
    assert found.complaint().startswith(f"5 samples were left out: {path}:2: no JSON object; ")
    assert found.complaint().endswith(", and 2 more")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "it is empty"), (b"[1", "is no JSON list"), (b"\xff\xfe", "cannot be read"), (b'{"a": 1}\n', "no problem")],
)
def test_a_file_of_nothing_is_refused(tmp_path, problems, content, message):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(content)
    with pytest.raises(EvaluationError, match=message):
        read_samples(path, problems)


def test_verdicts_come_a_line_each_in_the_samples_order_and_once(write, problems, tmp_path):
    rows = [
        {"task_id": problems[1].task_id, "completion": problems[1].gold},
        {"task_id": problems[0].task_id, "completion": "    import os; os._exit(0)\n"},
        {"task_id": problems[1].task_id, "completion": "x" * 10_000_000},
    ]
    path = write(*rows, {"task_id": "nobody", "completion": ""})
    result = judge("--samples", path, "--output", tmp_path / "out")
    assert result.returncode == 2
    assert "1 samples were left out: " in result.stderr
    assert "Traceback" not in result.stderr
    verdicts = lines(tmp_path / "out" / "verdicts.jsonl")
    assert [(row["task_id"], row["sample"], row["verdict"]) for row in verdicts] == [
        ("HumanEval/1", 0, "passed"),
        ("HumanEval/0", 0, "never-finished"),
        ("HumanEval/1", 1, "failed"),
    ]
    assert {row["judge"] for row in verdicts} == {"literal"}
    seconds = [row["seconds"] for row in verdicts]
    judge("--samples", path, "--output", tmp_path / "out")
    assert [row["seconds"] for row in lines(tmp_path / "out" / "verdicts.jsonl")] == seconds


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", "humanval"], "there is no benchmark humanval: did you mean humaneval?"),
        (["--benchmark", "infilling"], "path: Field required"),
        (["--benchmark", "mbpp", "--path", "absent.jsonl"], "there is no file absent.jsonl"),
        (["--samples", "absent.jsonl"], "absent.jsonl cannot be read"),
        (["limit=0"], "limit: Input should be greater than 0"),
        (["limit={1"], "limit={1: {1 is no YAML (while parsing a flow mapping)"),
        (["--workers", "0"], "--workers 0: at least one program is judged at once"),
    ],
)
def test_bad_input_is_one_sentence(write, problems, tmp_path, arguments, message):
    path = write({"task_id": problems[0].task_id, "completion": ""})
    result = judge("--samples", path, "--output", tmp_path / "out", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
