"""Decontamination: HumanEval's own problems are found however they are written, and real code is left alone."""

import ast
import gzip
import json
import pickle
import random
import re
import sysconfig
from pathlib import Path

import pytest

from codelm.config.cleaning import DecontaminationSection
from codelm.data.contamination import needles as decontaminate
from codelm.data.contamination.needles import Contamination, Hit, Needles
from codelm.data.contamination.problems import Problem, load_problems
from codelm.errors import DataError

PROBLEMS = load_problems("humaneval")
STDLIB = Path(sysconfig.get_path("stdlib"))


@pytest.fixture(scope="module")
def needles() -> Needles:
    return Needles.build(PROBLEMS)


def recall(needles: Needles, texts: list[str]) -> float:
    """The share of problems that are found in the text with the same number."""
    found = [any(hit.problem == p.id for hit in needles.find(t)) for p, t in zip(PROBLEMS, texts, strict=True)]
    return sum(found) / len(found)


# Recall: every way of writing a problem down


def test_every_problem_has_needles(needles: Needles) -> None:
    assert len(needles.problems) == 164
    assert needles.uncovered == ()


def test_verbatim_copies_are_found(needles: Needles) -> None:
    assert recall(needles, [p.statement for p in PROBLEMS]) == 1
    assert recall(needles, [p.statement + p.solution for p in PROBLEMS]) == 1


def test_hidden_tests_are_found(needles: Needles) -> None:
    assert recall(needles, [p.tests for p in PROBLEMS]) > 0.95


def test_copies_that_python_wrote_anew_are_found(needles: Needles) -> None:
    """`ast.unparse` keeps no comment, line break, quote or parenthesis of the original."""
    assert recall(needles, [ast.unparse(ast.parse(p.statement + p.solution)) for p in PROBLEMS]) == 1


def test_copies_with_other_white_space_and_quotes_are_found(needles: Needles) -> None:
    texts = [re.sub(r"\s+", " \r\n\t", p.statement).replace('"""', "'''").replace("'", '"') for p in PROBLEMS]
    assert recall(needles, texts) == 1


def test_upper_case_hides_nothing(needles: Needles) -> None:
    assert recall(needles, [p.statement.upper() for p in PROBLEMS]) == 1


@pytest.mark.parametrize(
    ("before", "line", "after"), [("", "// ", ""), ("/**\n", " * ", "\n */"), ("", "# ", ""), ("", "-- ", "")]
)
def test_descriptions_in_the_comments_of_another_language_are_found(
    needles: Needles, before: str, line: str, after: str
) -> None:
    def comment(problem: Problem) -> str:
        lines = problem.description().strip().split("\n")
        return f"{before}{''.join(f'{line}{text.strip()}' + chr(10) for text in lines)}{after}\nlong solve(long n) {{\n"

    assert recall(needles, [comment(p) for p in PROBLEMS]) == 1


def test_solutions_without_their_prompts_are_found_when_they_are_long_enough_to_be_told_apart(needles: Needles) -> None:
    assert recall(needles, [p.solution for p in PROBLEMS]) > 0.65
    long = [p for p in PROBLEMS if len(re.findall(r"\w+", p.solution)) >= 25]
    found = [any(hit.problem == p.id for hit in needles.find(f"def f(x):\n{p.solution}")) for p in long]
    assert len(long) > 60
    assert sum(found) / len(found) > 0.95


def test_problems_hidden_in_real_files_are_found_where_they_stand(needles: Needles) -> None:
    """A seeded contamination: every problem in the middle of a file of the standard library."""
    files = sorted(path for path in STDLIB.glob("*.py") if path.stat().st_size > 5000)
    shuffled = random.Random(7)
    for problem in PROBLEMS:
        text = shuffled.choice(files).read_text(encoding="utf-8", errors="replace")
        lines = text.split("\n")
        place = shuffled.randrange(len(lines))
        before = "\n".join([*lines[:place], ""])
        hidden = "\n".join([problem.statement + problem.solution, *lines[place:]])
        hits = [hit for hit in needles.find(before + hidden) if hit.problem == problem.id]
        assert hits, problem.id
        assert len(before) <= hits[0].position < len(before) + len(problem.statement + problem.solution)


# Precision: what is not a copy


def test_the_standard_library_is_clean(needles: Needles) -> None:
    for path in [*STDLIB.glob("*.py"), *STDLIB.glob("email/*.py"), *STDLIB.glob("test/test_[a-f]*.py")]:
        assert needles.find(path.read_text(encoding="utf-8", errors="replace")) == [], path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "from typing import List, Tuple, Dict, Optional, Any, Union\n\n\ndef main(numbers: List[int]) -> int:\n",
        str(list(range(200))),
        "0x00, " * 500,
        "a b c d e f g h i j k l m n o p q r s t u v w x y z",
        "for i in range(len(arr)):\n    for j in range(i + 1, len(arr)):\n        if arr[i] > arr[j]:\n"
        "            arr[i], arr[j] = arr[j], arr[i]\nreturn arr",
        "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a\n",
        "def is_prime(n):\n    if n < 2:\n        return False\n    for i in range(2, int(n ** 0.5) + 1):\n"
        "        if n % i == 0:\n            return False\n    return True\n",
        "\udcff\udcfe lone surrogates",
    ],
)
def test_ordinary_code_is_no_problem(needles: Needles, text: str) -> None:
    assert needles.find(text) == []


# Hits


def test_a_hit_says_what_and_where(needles: Needles) -> None:
    text = "# Größe, 大小\n" + PROBLEMS[0].statement
    hit = needles.find(text)[0]
    assert (hit.benchmark, hit.problem, hit.kind) == ("humaneval", "HumanEval/0", "ngram")
    assert text[hit.position :].startswith("from typing import List")
    assert text.index("from typing") == hit.position


def test_a_short_text_is_found_as_a_whole_and_only_as_a_whole() -> None:
    solution = "return zookeeper.feed_hungry(penguin_colony, mackerel_bucket)"
    needles = Needles.build([Problem("zoo", "1", "Feed them.", solution)])
    assert needles.find(f"def f(x):\n    {solution}\n") == [Hit("zoo", "1", "substring", 14)]
    assert needles.find(solution.replace("mackerel_bucket", "herring_bucket")) == []
    assert needles.find(f"do_{solution}") == []
    assert Needles.build([Problem("zoo", "1", "Feed.", solution)], DecontaminationSection(min_substring=80)).uncovered


def test_texts_longer_than_a_chunk_are_searched_throughout(needles: Needles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decontaminate, "_CHUNK", 3000)
    monkeypatch.setattr(decontaminate, "_OVERLAP", 1500)
    for before in (0, 1400, 2500, 2999, 3001, 8000):
        text = "x = 1\n" * (before // 6) + " " * (before % 6) + PROBLEMS[0].statement + "\ny = 2" * 500
        assert {hit.position for hit in needles.find(text) if hit.kind == "ngram"} == {before}


def test_what_many_problems_share_is_no_needle() -> None:
    licence = (
        "zebras graze quietly while ostriches sprint across dusty savannah plains near tall acacia trees every morning"
    )
    few = [Problem("b", str(number), licence) for number in range(3)]
    assert {hit.problem for hit in Needles.build(few).find(licence)} == {"0", "1", "2"}
    many = [Problem("b", str(number), f"{licence} {'pad ' * 20}{number}") for number in range(4)]
    assert all(hit.kind == "substring" for hit in Needles.build(many).find(licence))


def test_needles_are_the_same_every_time_and_travel(needles: Needles) -> None:
    again = Needles.build(load_problems("humaneval"))
    assert pickle.dumps(again) == pickle.dumps(needles)
    copy = pickle.loads(pickle.dumps(needles))
    assert copy.find(PROBLEMS[3].statement) == needles.find(PROBLEMS[3].statement) != []


def test_ngram_length_is_a_setting() -> None:
    words = "wolves howl beneath silver moonlight"
    problem = Problem("b", "1", words)
    assert Needles.build([problem]).uncovered == (("b", "1"),)
    assert Needles.build([problem], DecontaminationSection(ngram=4)).find(f"When {words}!") == [
        Hit("b", "1", "ngram", 5)
    ]


# Loading


def write(path: Path, *lines: dict) -> str:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def test_files_with_the_fields_of_the_usual_benchmarks(tmp_path: Path) -> None:
    mbpp = {"task_id": 2, "text": "Say it.", "code": "def f():\r\n  pass", "test_list": ["assert f()", "assert 1"]}
    assert load_problems(write(tmp_path / "mbpp.jsonl", mbpp)) == [
        Problem("mbpp", "2", "Say it.", mbpp["code"], "assert f()\nassert 1")
    ]
    multipl_e = {
        "name": "HumanEval_0_x",
        "language": "ts",
        "prompt": "//A\nfunction x() {\n",
        "tests": "t",
        "stop_tokens": [],
    }
    assert load_problems(write(tmp_path / "humaneval-ts.jsonl.gz", multipl_e)) == [
        Problem("humaneval-ts", "HumanEval_0_x", multipl_e["prompt"], "", "t")
    ]
    assert load_problems(write(tmp_path / "own.jsonl", {"content": "a"}, {"text": "b"})) == [
        Problem("own", "1", "a"),
        Problem("own", "2", "b"),
    ]


def test_the_description_is_the_docstring_or_the_comments() -> None:
    assert PROBLEMS[0].description().strip().startswith("Check if in given list of numbers")
    assert Problem("b", "1", "#include<x>\n// Return it,\n// twice.\nint f() {\n").description().count("\n") == 3
    assert Problem("b", "1", "Write a function.").description() == "Write a function."


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("mbpp", None, "mbpp does not come with codelm"),
        ("MultiPL-E", None, "nuprl/MultiPL-E"),
        ("absent.jsonl", None, "neither `humaneval` nor a file"),
        ("bad.jsonl", b"{\n", "bad.jsonl:1: no problem"),
        ("list.jsonl", b"[1]\n", "list.jsonl:1: no problem"),
        ("empty.jsonl", b'{"prompt": "a"}\n{"stop": "a"}\n', "empty.jsonl:2: no problem"),
        ("torn.jsonl.gz", gzip.compress(b'{"prompt": "a"}\n', mtime=0)[:-9], "no problem"),
        ("bytes.jsonl", b"\xff\xfe\n", "bytes.jsonl:1: no problem"),
    ],
)
def test_what_is_no_benchmark_is_named_in_one_sentence(
    tmp_path: Path, name: str, line: bytes | None, sentence: str
) -> None:
    if line is not None:
        (tmp_path / name).write_bytes(line)
        name = str(tmp_path / name)
    with pytest.raises(DataError, match=re.escape(sentence)):
        load_problems(name)


# The report


def test_the_report_counts_files_and_problems_and_can_be_merged() -> None:
    hits = [Hit("humaneval", "HumanEval/1", "ngram", 0), Hit("humaneval", "HumanEval/1", "substring", 4)]
    first, second = Contamination(), Contamination()
    first.add("repo/b.py", hits)
    first.add("repo/a.py", [*hits[:1], Hit("mbpp", "7", "ngram", 0)])
    first.add("clean.py", [])
    second.add("other/c.py", hits[1:])
    second.merge(json.loads(json.dumps(first.to_dict())))
    assert second.to_dict() == {
        "humaneval": {
            "files": 3,
            "problems_found": 1,
            "problems": {
                "HumanEval/1": {
                    "other/c.py": ["substring"],
                    "repo/a.py": ["ngram"],
                    "repo/b.py": ["ngram", "substring"],
                }
            },
        },
        "mbpp": {"files": 1, "problems_found": 1, "problems": {"7": {"repo/a.py": ["ngram"]}}},
    }
