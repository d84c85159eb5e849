"""The main job through its real commands: a git repository of real code in, a judged transformers checkpoint out."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The children must not see this checkout's tests, nor the hub.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def recipe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, timeout=400
    )


def succeed(*arguments: str) -> str:
    result = recipe(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def losses(save_folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (save_folder / "metrics.jsonl").read_text().splitlines()]
    return {row["batch"]: row["loss/train/total"] for row in rows if "loss/train/total" in row}


def git_repository(folder: Path) -> Path:
    """A checked-out repository of some of the standard library."""
    stdlib = Path(sysconfig.get_path("stdlib"))
    for package in ("json", "email", "asyncio"):
        (folder / package).mkdir(parents=True)
        for file in (stdlib / package).glob("*.py"):
            (folder / package / file.name).write_bytes(file.read_bytes())
    git = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "code"]):
        subprocess.run([*git, *command], check=True)
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """data_prep/main.py over the repository, by the quickstart's YAML."""
    root = tmp_path_factory.mktemp("job")
    (root / "data.yaml").write_text(
        f"""
extends: {ROOT}/yamls/quickstart/data.yaml
languages: [python]
max_seq_len: 256
tokenizer: {{train: {{vocab_size: 512, sample_bytes: 300000}}}}
sources:
  packages: {{path: {git_repository(root / "repository")}, repository_per_folder: false}}
  python: {{path: {root / "repository"}, include: ["json/**"]}}
split: {{validation: 0.2}}
output_folder: {root / "data"}
"""
    )
    succeed("data_prep/main.py", str(root / "data.yaml"))
    return root


def train_arguments(prepared: Path, save_folder: Path) -> list[str]:
    return [
        "train/main.py",
        "yamls/quickstart/train.yaml",
        "max_seq_len=256",
        f"tokenizer.path={prepared}/data/tokenizer",
        f"train_data.path={prepared}/data",
        "train_data.mixture=corpus",
        f"eval_data.heldout.path={prepared}/data",
        "model.d_model=64",
        "model.n_layers=2",
        "model.resid_pdrop=0.1",
        "max_duration=60ba",
        "save_interval=10ba",
        "eval_interval=30ba",
        "callbacks.code_eval.interval=30ba",
        "callbacks.code_eval.tasks.humaneval.limit=2",
        "callbacks.code_eval.tasks.humaneval.max_new_tokens=8",
        f"save_folder={save_folder}",
    ]


def kill_after_first_checkpoint(arguments: list[str], save_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (save_folder / "latest").exists():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (save_folder / "ba000060").exists(), "it was killed too late to test anything"


@pytest.fixture(scope="module")
def trained(prepared: Path) -> Path:
    """The save_folder of a run that was killed with SIGKILL and started again."""
    save_folder = prepared / "killed"
    arguments = train_arguments(prepared, save_folder)
    kill_after_first_checkpoint(arguments, save_folder)
    succeed(*arguments)
    return save_folder


def test_a_killed_run_has_the_losses_of_one_that_was_not(prepared: Path, trained: Path) -> None:
    succeed(*train_arguments(prepared, prepared / "whole"))
    assert losses(trained) == losses(prepared / "whole")
    assert len(losses(trained)) == 60


def test_provenance_leads_from_the_shards_to_the_files(prepared: Path) -> None:
    rows = [json.loads(line) for line in (prepared / "data/train/python/documents.jsonl").read_text().splitlines()]
    head = subprocess.run(
        ["git", "-C", str(prepared / "repository"), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert {row["commit"] for row in rows} == {head}
    assert all((prepared / "repository" / row["path"]).is_file() for row in rows)


def test_training_logs_validation_and_code_evaluation(trained: Path) -> None:
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert any("metrics/python/BitsPerByte" in row for row in rows)
    assert any("eval/humaneval/pass@1" in row for row in rows)


def test_the_last_checkpoint_has_a_model_card(trained: Path) -> None:
    assert (trained / "latest").resolve().name == "ba000060"
    card = (trained / "latest" / "README.md").read_text()
    assert "# quickstart\n" in card
    assert "Run `quickstart`: 60 batches, 61,440 tokens" in card
    assert "| bits per byte, python |" in card


def test_the_checkpoint_is_evaluated_on_humaneval(prepared: Path, trained: Path) -> None:
    out = prepared / "eval"
    printed = succeed(
        "eval/main.py",
        "yamls/quickstart/eval.yaml",
        f"model.path={trained}/latest",
        "tasks.humaneval.limit=3",
        "tasks.humaneval.max_new_tokens=16",
        f"output_folder={out}",
    )
    assert "pass@1" in printed
    names = {path.name for path in out.rglob("*.json*")}
    assert {"samples.jsonl", "verdicts.humaneval-2.jsonl", "summary.json"} <= names


@pytest.mark.slow
def test_the_export_loads_in_transformers_without_codelm(prepared: Path, trained: Path) -> None:
    out = prepared / "export"
    succeed("eval/export.py", f"{trained}/latest", "--to", "transformers", "-o", str(out))
    script = f"""
import sys
sys.modules["codelm"] = None
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained({str(out)!r})
tokenizer = AutoTokenizer.from_pretrained({str(out)!r})
ids = tokenizer("def f(x):", return_tensors="pt").input_ids
print(type(model).__name__, model.generate(ids, max_new_tokens=4, do_sample=False).shape[1] - ids.shape[1])
"""
    assert succeed("-c", script).split()[0] == "MptForCausalLM"


def test_a_misspelt_key_is_one_sentence_and_exit_code_2() -> None:
    result = recipe("train/main.py", "yamls/quickstart/train.yaml", "optimizer.lrr=1e-4")
    assert result.returncode == 2
    assert result.stderr == "command line `optimizer.lrr=1e-4`: optimizer.lrr: unknown key; did you mean `lr`?\n"


def test_a_bad_configuration_is_reported_without_importing_torch() -> None:
    script = """
import runpy, sys
sys.argv = ["train/main.py", "yamls/quickstart/train.yaml", "optimizer.lrr=1"]
try:
    runpy.run_path("train/main.py", run_name="__main__")
except SystemExit as end:
    print(end.code, [name for name in ("torch", "transformers", "composer") if name in sys.modules])
"""
    assert succeed("-c", script) == "2 []\n"


@pytest.mark.parametrize(
    "command",
    [
        ["train/main.py", "yamls/quickstart/train.yaml", "tokenizer.path=nowhere"],
        pytest.param(["eval/main.py", "yamls/quickstart/eval.yaml", "model.path=nowhere"], marks=pytest.mark.slow),
    ],
    ids=["train", "eval"],
)
def test_missing_data_is_one_sentence_and_exit_code_2(command: list[str]) -> None:
    result = recipe(*command)
    assert result.returncode == 2, result.stderr
    assert "nowhere" in result.stderr
    assert "Traceback" not in result.stderr
