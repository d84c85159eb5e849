"""The contamination report on a comparison's page, from a corpus' own manifest."""

import json
from dataclasses import replace

import pytest

from codelm.data.contamination.sought import Sought, hashes_of
from codelm.data.manifest import load_manifest
from codelm.eval.compare.blocks import to_markdown
from codelm.eval.compare.contamination import contamination

FOUND = {
    "humaneval": {
        "files": 3,
        "problems_found": 2,
        "problems": {
            "HumanEval/1": {"r:a.py": ["ngram"], "r:b.py": ["ngram"], "r:c.py": ["substring"]},
            "HumanEval/7": {"r:a.py": ["ngram"]},
        },
    }
}


@pytest.fixture
def manifest(corpus):
    """Of a corpus that was searched for benchmarks; without `sought`, an older one, which tells only their names."""

    def of(benchmarks, found, sought=None):
        plain = load_manifest(corpus)
        settings = {**plain.settings, "decontamination": {"benchmarks": benchmarks}}
        return replace(plain, settings=settings, contamination=found, sought=sought)

    return of


@pytest.fixture
def bench(tmp_path):
    """A repository benchmark's folder, with the settings of an evaluation on it."""
    row = {"benchmark": "toolz", "task_id": "a.py::f", "prompt": "def f():", "canonical_solution": "return 1"}
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "manifest.jsonl").write_text(json.dumps(row) + "\n")
    return {"benchmark": "mine", "path": str(tmp_path / "bench"), "masks": ["body"]}


def sought_in(bench):
    file = f"{bench['path']}/manifest.jsonl"
    return Sought(file, hashes_of([file])[file], {"toolz": 1}, ("toolz a.py::f",))


HUMANEVAL = Sought("humaneval", "0" * 64, {"humaneval": 164}, ())


def missed(report):
    assert (report.sentence != "") == bool(report.facts["not_looked_for"])
    return report.facts["not_looked_for"]


def test_what_was_found_and_dropped_is_listed(manifest):
    report = contamination(manifest(["humaneval"], FOUND, (HUMANEVAL,)), {"humaneval": {}})
    text = to_markdown("t", report.blocks)
    assert "| humaneval | 2 | 3 |" in text
    assert "| HumanEval/1 | r:a.py, r:b.py and 1 more |" in text
    assert report.facts["found"] == {"humaneval": {"files": 3, "problems_found": 2}}
    assert report.sentence == ""


@pytest.mark.parametrize("sought", [(HUMANEVAL,), None], ids=["recorded", "older"])
@pytest.mark.parametrize(
    ("name", "settings", "is_missed"),
    [
        ("humaneval_plus", {}, False),
        ("infilling", {"path": "problems.jsonl", "variant": "single-line"}, False),
        ("multipl_e", {"variant": "humaneval", "languages": ["rs", "sh"]}, False),
        ("multipl_e", {"variant": "mbpp", "languages": ["rs"]}, True),
        ("mbpp", {"variant": "sanitized"}, True),
        ("mine", {"path": "nowhere"}, True),
        ("replay", {"gaps": []}, False),
    ],
)
def test_what_was_not_looked_for_is_named(manifest, sought, name, settings, is_missed):
    report = contamination(manifest(["humaneval"], {}, sought), {name: settings})
    assert "No file holds one of them." in to_markdown("t", report.blocks)
    assert missed(report) == ([name] if is_missed else [])


def test_a_repositorys_benchmark_is_known_by_its_file(manifest, bench):
    sought = (HUMANEVAL, sought_in(bench))
    made = manifest(["humaneval", f"{bench['path']}/manifest.jsonl"], {}, sought)
    report = contamination(made, {"mine": bench})
    assert missed(report) == []
    assert "1 of 1 problems of" in to_markdown("t", report.blocks), "what cannot be found is named"
    with open(f"{bench['path']}/manifest.jsonl", "a") as file:
        file.write("\n")
    report = contamination(made, {"mine": bench})
    assert missed(report) == ["mine"]
    assert "mine is not the benchmark that was looked for: it was built anew since." in to_markdown("t", report.blocks)


def test_of_an_older_corpus_a_file_counts_for_what_its_name_says(manifest, bench):
    assert missed(contamination(manifest([f"{bench['path']}/manifest.jsonl"], {}), {"mine": bench})) == []
    assert missed(contamination(manifest(["data/mbpp.jsonl"], {}), {"mine": bench, "mbpp": {}})) == ["mine"]


def test_a_split_of_the_corpus_that_training_does_not_read_need_not_be_looked_for(manifest, corpus):
    texts = {"path": str(corpus), "split": "validation", "gaps": []}
    of_training = {**texts, "split": "train"}
    assert missed(contamination(manifest(["humaneval"], {}), {"a": texts, "b": of_training})) == ["b"]


def test_a_corpus_that_was_not_searched_is_named_on_top(manifest):
    report = contamination(manifest([], {}), {"humaneval": {}})
    assert report.sentence == "No evaluation problems were looked for in the corpus corpus: scores may owe to them."
