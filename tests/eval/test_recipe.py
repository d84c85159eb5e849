"""`eval/main.py` as a user runs it: from a checkpoint folder to files and a table; bad input is a sentence."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from codelm.config.evaluation.tasks import HumanEvalSection
from codelm.eval import completing, run
from codelm.eval.judge.verdict import Verdict
from codelm.eval.selftest import Group
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.pretrained import save_transformers

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "eval" / "main.py"
YAML = ROOT / "yamls" / "quickstart" / "eval.yaml"


@pytest.fixture(scope="module")
def checkpoint(tokenizer, tmp_path_factory):
    torch.manual_seed(0)
    config = ReplitCodeConfig(d_model=32, n_heads=2, n_layers=1, vocab_size=tokenizer.vocab_size, max_seq_len=512)
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save_transformers(ReplitCodeForCausalLM(config), config, tokenizer.path, folder)
    return folder


@pytest.fixture
def recipe(run_recipe):
    return partial(run_recipe, "main.py")


def _small(checkpoint, folder):
    return [
        YAML,
        f"model.path={checkpoint}",
        f"output_folder={folder}",
        "tasks.humaneval.limit=4",
        "tasks.humaneval.max_new_tokens=8",
    ]


def test_a_checkpoint_is_scored_and_a_second_run_reuses_it(recipe, checkpoint, tmp_path):
    code, out, err = recipe(*_small(checkpoint, tmp_path))
    assert code in (0, None)
    assert "pass@1" in out
    assert "0.0000" in out
    assert "± standard error" in out
    assert "judge: literal; sandbox: " in out
    assert "generate: 4 of 4" in err
    summary = json.loads((tmp_path / "humaneval" / "summary.json").read_text())
    assert summary["scores"]["pass@1"]["n"] == 4
    before = (tmp_path / "humaneval" / "samples.jsonl").read_bytes()
    assert recipe(*_small(checkpoint, tmp_path))[1] == out
    assert (tmp_path / "humaneval" / "samples.jsonl").read_bytes() == before


SUM = {
    "code": "def plus(a, b):\n    return a + b",
    "prompt": "Add two numbers.",
    "test_list": ["assert plus(1, 2) == 3"],
    "test": "assert plus(1, 2) == 3\n",
    "task_id": 11,
}


def _with_failures(folder):
    """Further benchmarks: one whose file is absent, one whose folder cannot be made, and a good one behind them."""
    folder.mkdir(exist_ok=True)
    (folder / "mbpp").write_text("in the way")
    (folder / "mbpp.jsonl").write_text(json.dumps(SUM) + "\n")
    few = [f"tasks.{name}.max_new_tokens=8" for name in ("mbpp", "mbpp_plus")]
    paths = [f"tasks.{name}.path={folder / 'mbpp.jsonl'}" for name in ("mbpp", "mbpp_plus")]
    return [*paths, *few, "tasks.infilling.path=absent.jsonl.gz"]


def test_two_processes_share_the_prompts_and_leave_out_the_same(checkpoint, tmp_path):
    def start(*launcher, folder):
        arguments = [*_small(checkpoint, folder), *_with_failures(folder)]
        command = [sys.executable, *launcher, str(RECIPE), *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)

    alone = start(folder=tmp_path / "alone")
    together = start("-m", "composer.cli.launcher", "-n", "2", folder=tmp_path / "together")
    for result in (alone, together):
        assert "MBPP+" in result.stdout
        said = result.stdout + result.stderr
        assert "tasks.mbpp was left out: File exists: " in said
        assert "; tasks.infilling.path: there is no file absent.jsonl.gz" in said
        assert "Traceback" not in said
    assert alone.returncode == 2
    for name in ("verdicts.humaneval-2.jsonl", "gold.jsonl"):
        files = [tmp_path / ranks / "humaneval" / name for ranks in ("alone", "together")]
        ids = [[json.loads(line)["task_id"] for line in file.read_text().splitlines()] for file in files]
        assert ids[0] == ids[1]
    texts = [(tmp_path / ranks / "humaneval" / "samples.jsonl").read_text() for ranks in ("alone", "together")]
    assert texts[0] == texts[1]


def test_what_the_memory_is_too_small_for_is_left_out(recipe, checkpoint, tmp_path, monkeypatch):
    complete = completing.complete

    def short_of_memory(model, tokenizer, section, *rest):
        if isinstance(section, HumanEvalSection):
            raise torch.OutOfMemoryError("no room for the cache")
        return complete(model, tokenizer, section, *rest)

    monkeypatch.setattr(run, "complete", short_of_memory)
    code, out, err = recipe(*_small(checkpoint, tmp_path), *_with_failures(tmp_path))
    assert code == 2
    assert "MBPP+" in out
    assert (
        "error: tasks.humaneval was left out: there is not enough memory for it: lower its batch_size; tasks.mb" in err
    )


def test_a_dry_run_says_what_would_run_and_writes_nothing(recipe, checkpoint, tmp_path):
    code, out, _ = recipe(*_small(checkpoint, tmp_path / "out"), "--dry-run")
    assert code in (0, None)
    assert out.startswith("would complete 4 problems of HumanEval")
    assert not (tmp_path / "out").exists()


def _self_test(recipe, left_out, *arguments):
    """What must pass and what came of it, by title: (must, passed, judged)."""
    code, out, _ = recipe("--self-test", *arguments)
    assert code == 0, out
    assert left_out in out
    rows = [[cell.strip() for cell in line.split("│")[1:5]] for line in out.splitlines() if line.startswith("│")]
    return {title: (must, int(passed), int(judged)) for title, must, passed, judged in rows}


@pytest.mark.slow
def test_the_self_test_needs_no_yaml_and_no_model(recipe):
    rows = _self_test(recipe, "mbpp_plus and infilling are not judged")
    assert rows["HumanEval's reference solutions"] == ("pass", 164, 164)
    for must, passed, judged in rows.values():
        assert passed == judged if must == "pass" else passed <= (0.2 * judged if must == "mostly not pass" else 0)
    assert {"forgeries", "odd but correct programs", "Bash: correct programs"} <= set(rows)


def test_the_self_test_of_a_yaml_judges_its_benchmarks_mutants_of_them_and_its_toolchains(recipe):
    rows = _self_test(
        recipe,
        "tasks.mbpp.path: there is no file absent.jsonl",
        YAML,
        "tasks.mbpp.path=absent.jsonl",
        "tasks.humaneval.limit=4",
        "tasks.multipl_e.languages=[sh]",
        "model.path=x",
        "sandbox.num_workers=2",
    )
    assert rows["HumanEval's reference solutions"] == ("pass", 4, 4)
    assert rows["HumanEval's references that return None"] == ("not pass", 0, 4)
    assert rows["HumanEval's references with a mutation"][2] == 4
    assert rows["Bash: correct programs"] == ("pass", 2, 2)
    assert rows["Bash: forgeries"] == ("not pass", 0, 2)
    assert not any(title.startswith("C++") for title in rows)


@pytest.mark.parametrize(
    ("must", "kinds", "wrong"),
    [
        ("pass", ["passed", "failed", "unjudged"], [1, 2]),
        ("not pass", ["failed", "passed", "unjudged", "never-finished"], [1, 2]),
        ("mostly not pass", ["passed", "failed", "failed", "failed", "failed"], []),
        ("mostly not pass", ["passed", "passed", "failed", "failed", "failed"], [0, 1]),
        ("mostly not pass", ["passed", "failed"], []),
    ],
)
def test_a_self_test_names_what_is_not_as_it_must_be(must, kinds, wrong):
    group = Group("title", must, [Verdict(str(n), kind, "", 0.0, 0.0, "none") for n, kind in enumerate(kinds)])
    assert [int(verdict.id) for verdict in group.wrong] == wrong


def test_the_sandbox_check_shows_the_ladder(recipe):
    code, out, _ = recipe("--sandbox-check")
    assert code in (0, None)
    assert out.startswith("level: ")
    assert "open a network socket" in out


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (None, ["model.path={folder}/absent"], "there is no checkpoint at"),
        (lambda folder: (folder / "spiece.model").unlink(), [], "spiece.model"),
        (lambda folder: (folder / "config.json").unlink(), [], "is no checkpoint: it has no config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"torn"), [], "model.safetensors"),
        (None, ["tasks.humaneval.limt=3"], "did you mean `limit`?"),
        (None, ["tasks.humaneval.num_samples=2"], "num_samples 2 at temperature 0"),
        (None, ["tasks.humaneval=null"], "there is nothing to evaluate"),
        (None, ["model.device=gpu"], "torch sees none"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    recipe, checkpoint, tmp_path, monkeypatch, prepare, arguments, message
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    if prepare:
        prepare(folder)
        for name in ("tokenizer.json", "fingerprint.json"):
            (folder / name).unlink()
    out = tmp_path / "out"
    code, _, err = recipe(*_small(folder, out), *(argument.format(folder=tmp_path) for argument in arguments))
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not out.exists()


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(checkpoint, tmp_path):
    def command(folder):
        arguments = [*_small(checkpoint, folder), "tasks.humaneval.limit=40", "tasks.humaneval.max_new_tokens=200"]
        return [sys.executable, str(RECIPE), *map(str, arguments)]

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command(tmp_path / "whole"), env=environment, check=True, capture_output=True)
    kills = 0
    for wanted in (1, 9, 17, 33):
        process = subprocess.Popen(command(tmp_path / "out"), env=environment, stderr=subprocess.DEVNULL)
        samples = tmp_path / "out" / "humaneval" / "samples.jsonl"
        while process.poll() is None and (not samples.exists() or samples.read_bytes().count(b"\n") < wanted):
            time.sleep(0.01)
        kills += process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert kills >= 2
    subprocess.run(command(tmp_path / "out"), env=environment, check=True, capture_output=True)

    def rows(name):
        lines = (tmp_path / name / "humaneval" / "samples.jsonl").read_text().splitlines()
        return sorted(json.loads(line)["text"] for line in lines)

    assert rows("out") == rows("whole")
