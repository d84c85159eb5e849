"""The contamination report on a comparison's page, from a corpus' own manifest."""

from dataclasses import replace

import pytest

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
    def of(benchmarks, found):
        plain = load_manifest(corpus)
        settings = {**plain.settings, "decontamination": {"benchmarks": benchmarks}}
        return replace(plain, settings=settings, contamination=found)

    return of


def test_what_was_found_and_dropped_is_listed(manifest):
    report = contamination(manifest(["humaneval", "bench/manifest.jsonl"], FOUND), ["humaneval", "mine"])
    text = to_markdown("t", report.blocks)
    assert "| humaneval | 2 | 3 |" in text
    assert "| HumanEval/1 | r:a.py, r:b.py and 1 more |" in text
    assert report.facts["found"] == {"humaneval": {"files": 3, "problems_found": 2}}
    assert report.sentence == ""


def test_a_clean_corpus_says_so_and_names_what_was_not_looked_for(manifest):
    text = to_markdown("t", contamination(manifest(["humaneval"], {}), ["humaneval_plus", "mbpp"]).blocks)
    assert "No file holds one of them." in text
    assert "Not looked for by that name: mbpp." in text


def test_a_corpus_that_was_not_searched_is_named_on_top(manifest):
    report = contamination(manifest([], {}), ["humaneval"])
    assert report.sentence == "No evaluation problems were looked for in the corpus corpus: scores may owe to them."
