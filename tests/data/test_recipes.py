"""The commands of data_prep as a user types them: what they print, and their exit codes."""

import itertools
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codelm.config.load import load_config

ROOT = Path(__file__).parents[2]

YAML = """
run_name: test
sources:
  code:
    path: {code}
    licence: PSF-2.0
split:
  validation: 0.1
tokenizer:
  train:
    vocab_size: 400
    sample_bytes: 100000
languages: [python, c]
max_seq_len: 64
output_folder: {output}
num_workers: 1
"""


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "data_prep" / str(arguments[0])), *map(str, arguments[1:])]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def yaml(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    file = folder / "data.yaml"
    file.write_text(YAML.format(code=code_folder, output=folder / "out"))
    return file


def test_from_a_dry_run_to_shown_samples(yaml: Path) -> None:
    output = yaml.parent / "out"

    dry = run("main.py", yaml, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "nothing was written" in dry.stdout
    assert not output.exists()

    trained = run("train_tokenizer.py", yaml)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("tokenizer ")
    model = (output / "tokenizer" / "spiece.model").read_bytes()

    prepared = run("main.py", yaml)
    assert prepared.returncode == 0, prepared.stderr
    table = [line.split() for line in prepared.stdout.splitlines()]
    assert table[0] == ["language", "files", "MB", "tokens", "B/token", "samples", "held", "out"]
    assert {row[0] for row in table[1:4]} == {"python", "c", "all"}
    assert "prepared: " in prepared.stdout
    assert "tokenise: " in prepared.stderr
    assert (output / "tokenizer" / "spiece.model").read_bytes() == model

    started = time.monotonic()
    again = run("main.py", yaml, "num_workers=2")
    assert again.returncode == 0
    assert "already prepared: " in again.stdout
    assert again.stderr == ""
    assert time.monotonic() - started < 10

    shown = run("show.py", output, "python", 0, 3)
    assert shown.returncode == 0, shown.stderr
    assert "train/python sample 3: 64 tokens" in shown.stdout
    assert "──── code:" in shown.stdout
    assert "samples of" in run("show.py", output).stdout

    changed = run("main.py", yaml, "seed=18")
    assert (changed.returncode, changed.stdout) == (2, "")
    assert changed.stderr == (
        f"error: {output} holds a finished corpus with other settings (seed was 17, now 18);"
        " name another output_folder, or delete this one\n"
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sources.code.path=/nowhere"], "sources.code.path: /nowhere does not exist"),
        (["languages=[java]"], "the corpus is empty"),
        (["tokenizer.train=null", "tokenizer.path=/nowhere"], "there is no tokenizer at /nowhere"),
        (["tokenizer.train.vocab_size=60000"], "set vocab_size to at most"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(yaml: Path, tmp_path: Path, overrides: list, sentence: str) -> None:
    result = run("main.py", yaml, f"output_folder={tmp_path / 'out'}", *overrides)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.returncode, len(errors)) == (2, 1), result.stderr
    assert sentence in errors[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_showing_what_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = run("show.py", tmp_path / "nowhere")
    assert result.returncode == 2
    assert "there is no prepared data at" in result.stderr


@pytest.mark.parametrize("file", ["quickstart/data.yaml"])
def test_the_shipped_yaml_is_valid_and_every_key_is_explained(file: str) -> None:
    path = ROOT / "yamls" / file
    assert load_config("data", str(path), []).output_folder == "runs/quickstart/data"
    lines = path.read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        key, _, value = line.strip().partition(":")
        if not line.startswith("#") and value and "#" not in line:
            assert before.strip().startswith("#"), f"`{key}` has no comment above it"
