"""`eval/compare.py` as a user runs it: from result folders or checkpoints to a page; bad input is a sentence."""

import json
import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.pretrained import save_transformers

ROOT = Path(__file__).parents[3]
YAML = ROOT / "yamls" / "quickstart" / "eval.yaml"
SMALL = ["--set", "tasks.humaneval.limit=3", "--set", "tasks.humaneval.max_new_tokens=4"]


@pytest.fixture(scope="module")
def checkpoints(tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for seed, name in enumerate(("base", "tuned")):
        torch.manual_seed(seed)
        config = ReplitCodeConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=tokenizer.vocab_size, max_seq_len=512)
        save_transformers(ReplitCodeForCausalLM(config), config, tokenizer.path, folder / name)
    return folder


@pytest.fixture
def recipe(run_recipe):
    return partial(run_recipe, "compare.py")


def test_two_checkpoints_are_evaluated_once_and_compared(recipe, checkpoints, tmp_path):
    arguments = [checkpoints / "base", checkpoints / "tuned", "--yaml", YAML, *SMALL, "-o", tmp_path]
    code, out, err = recipe(*arguments)
    assert code == 0
    assert "no measurable change in HumanEval: pass@1 (+0.0 points" in out
    assert err.count("generate: 3 of 3") == 2
    found = json.loads((tmp_path / "compare.json").read_text())
    assert [change["metric"] for change in found["changes"]] == ["pass@1", "gold_bpb"]
    assert found["systems"]["tuned"]["checkpoints"] == [str(checkpoints / "tuned")]
    page = (tmp_path / "compare.html").read_bytes()
    samples = (tmp_path / "base" / "humaneval" / "samples.jsonl").read_bytes()
    assert recipe(*arguments)[:2] == (0, out)
    assert (tmp_path / "base" / "humaneval" / "samples.jsonl").read_bytes() == samples
    assert (tmp_path / "compare.html").read_bytes() == page
    # The folders that it left are evaluations like any other.
    code, again, _ = recipe(tmp_path / "base", tmp_path / "tuned", "-o", tmp_path / "again")
    assert (code, again.splitlines()[0]) == (0, out.splitlines()[-2])


def test_result_folders_are_compared_without_a_model(recipe, humaneval_results, tmp_path):
    base = humaneval_results("base", [False] * 12)
    tuned = humaneval_results("tuned", [True] * 8 + [False] * 4)
    code, out, err = recipe(base, tuned, "--benchmarks", "human", "--own", "human", "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert out.startswith("On your code: pass@1 rose from 0.0 % to 66.7 % (+66.7 points, 95 % interval +")
    assert out.endswith(f"page: {tmp_path / 'out' / 'compare.html'}\n")


@pytest.mark.slow
def test_forgetting_memorisation_and_contamination_are_on_the_page(
    recipe, checkpoints, corpus, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["canaries.py", "-o", str(tmp_path / "secrets"), "--count", "1", "--repeats", "1"])
    monkeypatch.syspath_prepend(str(ROOT / "eval"))
    runpy.run_path(str(ROOT / "eval" / "canaries.py"), run_name="__main__")
    arguments = [
        checkpoints / "base", checkpoints / "tuned", "--yaml", YAML, *SMALL, "-o", tmp_path / "out",
        "--replay", corpus, "--replay-files", 2, "--audit", corpus, "--audit-files", 4,
        "--canaries", tmp_path / "secrets",
    ]  # fmt: skip
    capsys.readouterr()
    code, out, _ = recipe(*arguments)
    assert code == 0
    assert "Memorisation: shown the first 50 tokens of a file it was trained on, tuned wrote" in out
    assert "None of 2 planted secrets comes out of tuned" in out
    found = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert {change["benchmark"] for change in found["changes"]} == {"humaneval", "replay"}
    assert found["contamination"]["corpus"] == "corpus"
    assert found["memorisation"]["extraction"]["base"]["trained"]["files"] == 4
    page = (tmp_path / "out" / "compare.html").read_bytes()
    assert b"Was it trained on the problems?" in page
    assert recipe(*arguments)[:2] == (0, out)
    assert (tmp_path / "out" / "compare.html").read_bytes() == page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{base}"], "name at least two evaluations or checkpoints"),
        (["{base}", "{base}"], "write NAME=PATH to tell them apart"),
        (["{base}", "b=./absent"], "there is no checkpoint at"),
        (["{base}", "b={base}/absent", "--yaml", str(YAML)], "there is no checkpoint at"),
        (["{base}", "{other}"], "max_new_tokens was 512 for base and 64 for other"),
        (["{base}", "{other}", "--benchmarks", "humanevla"], "did you mean humaneval?"),
        # Before anything is evaluated, though one of the two names is right.
        (
            ["{base}", "b=absent", "--benchmarks", "repo,humanevla"],
            "repository.yaml has no such benchmark; did you mean h",
        ),
        # Nor is a benchmark found missing only when HumanEval is done.
        (
            ["{base}", "b=./absent", "--benchmarks", "repo,humaneval"],
            "bench holds no finished benchmark; build it with",
        ),
        (["{base}", "{other}", "--canaries", "x"], "--canaries needs --audit CORPUS"),
        (["{base}", "{other}", "--audit", "{base}"], "there is no prepared data at"),
        (["{base}", "{other}", "--profile", "bigcode"], "was never scored with the profile bigcode"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(recipe, humaneval_results, tmp_path, arguments, message):
    folders = {"base": humaneval_results("base", [True, False])}
    folders["other"] = humaneval_results("other", [True, False], max_new_tokens=64)
    code, _, err = recipe(*(argument.format(**folders) for argument in arguments), "-o", tmp_path / "out")
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
