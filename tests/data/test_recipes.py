"""The commands of data_prep as a user types them: what they print, and their exit codes."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codelm.config.data import DataConfig
from codelm.config.load import load_config
from codelm.data.prepare import prepare

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


def run(*arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "data_prep" / str(arguments[0])), *map(str, arguments[1:])]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **variables}
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
    assert "near duplicates were not looked for" in dry.stdout
    assert not output.exists()

    dry = run("train_tokenizer.py", yaml, "--dry-run")
    assert (dry.returncode, "nothing was written" in dry.stdout, output.exists()) == (0, True, False)

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
    assert "secrets and personal data (policy redact, personal redact): email " in prepared.stdout
    assert prepared.stdout.endswith(f"report: {output}/report.html\n")
    assert "tokenise: " in prepared.stderr
    assert (output / "tokenizer" / "spiece.model").read_bytes() == model

    started = time.monotonic()
    again = run("main.py", yaml, "num_workers=2")
    assert again.returncode == 0
    assert "already prepared: " in again.stdout
    assert "the sources were not read again" in again.stdout
    assert "not read again" not in prepared.stdout
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
        (["output_folder={code}/runs"], "lies inside the source code"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    yaml: Path, code_folder: Path, tmp_path: Path, overrides: list, sentence: str
) -> None:
    overrides = [override.format(code=code_folder) for override in overrides]
    result = run("main.py", yaml, f"output_folder={tmp_path / 'out'}", *overrides)
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.returncode, len(errors)) == (2, 1), result.stderr
    assert sentence in errors[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["nowhere", "file", "file/below"])
def test_showing_what_is_not_there_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    result = run("show.py", tmp_path / name)
    assert result.returncode == 2
    assert "there is no prepared data at" in result.stderr


def test_a_part_of_no_stage_is_refused(yaml: Path) -> None:
    result = run("main.py", yaml, "--shard", "1/2")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "--shard 1/2 is a part of one stage; name it with --stage\n"


def test_a_locale_without_our_characters_is_no_error() -> None:
    for recipe in ("main.py", "show.py", "withdraw.py"):
        result = run(recipe, "--help", PYTHONIOENCODING="ascii")
        assert (result.returncode, result.stderr) == (0, ""), recipe


@pytest.mark.parametrize(
    ("sent", "code", "word"),
    [("SIGINT", 130, "interrupted"), pytest.param("SIGTERM", 143, "terminated", marks=pytest.mark.slow)],
)
def test_it_is_stopped_in_a_word_while_its_workers_start(
    yaml: Path, tmp_path: Path, sent: str, code: int, word: str
) -> None:
    """Ctrl-C reaches the workers too, some of them in the midst of an import; a scheduler's SIGTERM may."""
    command = [sys.executable, str(ROOT / "data_prep" / "main.py"), str(yaml), f"output_folder={tmp_path / 'out'}"]
    process = subprocess.Popen(
        [*command, "num_workers=2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    # Python's tracker of resources is the first child.
    while len(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.2)
    os.killpg(process.pid, signal.Signals[sent])
    printed, said = process.communicate(timeout=30)
    assert (process.returncode, printed) == (code, "")
    assert said.endswith(f"\n{word}\n")
    stages = [line for line in said.removesuffix(f"\n{word}\n").splitlines() if line]
    assert [
        line
        for line in stages
        if not re.match("(list files|clean|near duplicates|train tokenizer|tokenise|pack): ", line)
    ] == []


@pytest.mark.parametrize(("sent", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
@pytest.mark.parametrize("library", ["pydantic_core", "_multiarray_umath", "libarrow"])
def test_it_is_stopped_in_a_word_while_it_imports(
    yaml: Path, tmp_path: Path, library: str, sent: str, code: int, word: str
) -> None:
    command = [sys.executable, str(ROOT / "data_prep" / "main.py"), str(yaml), f"output_folder={tmp_path / 'out'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while library not in Path(f"/proc/{process.pid}/maps").read_text():
        assert process.poll() is None
    process.send_signal(signal.Signals[sent])
    assert (process.communicate(timeout=60), process.returncode) == (("", f"\n{word}\n"), code)
    assert not (tmp_path / "out").exists()


def test_hostile_names_do_nothing_to_the_terminal(tmp_path: Path, code_folder: Path) -> None:
    """Escape sequences, line ends and bytes that are no text: in what show.py, --explain and withdraw.py print."""
    hostile = b"\x1b]0;title\x07\n\xff\xc2\x9b31m.py"
    place = os.fsencode(tmp_path / "code" / "\x1b[31mred") + b"/" + hostile
    os.makedirs(os.path.dirname(place))
    with open(place, "wb") as file:
        file.write((code_folder / "json" / "decoder.py").read_bytes())
    (tmp_path / "code" / "tame").mkdir()
    (tmp_path / "code" / "tame" / "a.py").write_bytes((code_folder / "json" / "encoder.py").read_bytes())
    settings = {
        "run_name": "test",
        "sources": {"code": {"path": str(tmp_path / "code"), "repository_per_folder": True}},
        "split": {"validation": 0.0},
        "tokenizer": {"train": {"vocab_size": 380}},
        "max_seq_len": 64,
        "output_folder": str(tmp_path / "out"),
    }
    (tmp_path / "data.yaml").write_text(json.dumps(settings))
    assert run("main.py", tmp_path / "data.yaml").returncode == 0
    printed = [
        run("show.py", tmp_path / "out", "python", 0, 1),
        run("main.py", tmp_path / "data.yaml", "--explain", os.fsdecode(place)),
        run("withdraw.py", tmp_path / "out", "*red", "-o", tmp_path / "without"),
    ]
    for result in printed:
        assert result.returncode == 0, result.stderr
        assert "\u241b" in result.stdout
        assert not set(result.stdout) & {"\x1b", "\x07", "\x9b"}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> Path:
    """A corpus of a repository for each package, packed best-fit, and a training YAML beside it."""
    folder = tmp_path_factory.mktemp("repositories")
    settings = {
        "run_name": "test",
        "sources": {"packages": {"path": str(code_folder), "repository_per_folder": True}},
        "split": {"validation": 0.0},
        "tokenizer": {"train": {"vocab_size": 400, "sample_bytes": 100_000}},
        "languages": ["python"],
        "packing": "best_fit",
        "max_seq_len": 256,
        "output_folder": str(folder / "data"),
        "num_workers": 1,
    }
    prepare(DataConfig.model_validate(settings))
    training = {
        "run_name": "test",
        "max_seq_len": 256,
        "tokenizer": {"path": str(folder / "data" / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "train_data": {"path": str(folder / "data"), "fim": {"rate": 1.0}},
        "optimizer": {"name": "lionw", "lr": 1e-3},
        "scheduler": {"name": "constant_with_warmup", "t_warmup": "0ba"},
        "max_duration": "8ba",
        "global_train_batch_size": 3,
        "device_train_microbatch_size": 1,
        "save_folder": str(folder / "checkpoints"),
        "save_interval": "8ba",
    }
    (folder / "train.yaml").write_text(json.dumps(training))
    return folder


def test_samples_are_shown_as_training_would_see_them(repositories: Path) -> None:
    plain = run("show.py", repositories / "data", "python", 0)
    shown = run("show.py", repositories / "data", "python", 0, "--fim", 1)
    assert shown.returncode == 0, shown.stderr
    assert "as training sees it at position 0: " in shown.stdout
    for piece in ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"):
        assert piece in shown.stdout
        assert piece not in plain.stdout
    assert "\033" not in shown.stdout
    assert run("show.py", repositories / "data", "python", 0, "--fim", 1).stdout == shown.stdout
    other = run("show.py", repositories / "data", "python", 0, "--fim", 1, "--position", 99)
    assert other.stdout != shown.stdout


def test_a_training_step_is_traced_to_its_files(repositories: Path, code_folder: Path) -> None:
    shown = run("show.py", "--step", 4, "--config", repositories / "train.yaml", "--text")
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "──── step 4: 3 samples of 256 tokens"
    positions = [line.split()[2].rstrip(":") for line in lines if line.startswith("──── position")]
    assert positions == ["9", "10", "11"]
    files = [line.split()[0] for line in lines if line.startswith("     ") and "[tokens " in line]
    assert files
    for file in files:
        repository, _, path = file.partition(":")
        assert (code_folder / repository / path).is_file()
    assert "<fim_middle>" in shown.stdout

    plain = run("show.py", "--step", 4, "--config", repositories / "train.yaml", "--set", "train_data.fim=null")
    assert [line for line in plain.stdout.splitlines() if line in lines] == plain.stdout.splitlines()
    wrong = run("show.py", "--step", 0, "--config", repositories / "train.yaml")
    assert (wrong.returncode, wrong.stderr) == (2, "error: --step 0: the first step of a run is 1\n")
    assert "belong together" in run("show.py", "--step", 4).stderr


def test_a_repository_is_withdrawn(repositories: Path, tmp_path: Path) -> None:
    done = run("withdraw.py", repositories / "data", "ema*", "-o", tmp_path / "new")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("withdrawn: email: ")
    assert "read back and compared: " in done.stdout
    listed = (tmp_path / "new" / "train" / "python" / "documents.jsonl").read_text()
    names = {json.loads(line)["repository"] for line in listed.splitlines()}
    assert {"asyncio", "json"} <= names
    assert "email" not in names
    again = run("withdraw.py", repositories / "data", "emial", "-o", tmp_path / "other")
    assert (again.returncode, again.stdout) == (2, "")
    assert "did you mean email?" in again.stderr


@pytest.mark.parametrize("file", ["quickstart/data.yaml"])
def test_the_shipped_yaml_is_valid_and_every_key_is_explained(file: str) -> None:
    path = ROOT / "yamls" / file
    assert load_config("data", str(path), []).output_folder == "runs/quickstart/data"
    lines = path.read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        key, _, value = line.strip().partition(":")
        if not line.startswith("#") and value and "#" not in line:
            assert before.strip().startswith("#"), f"`{key}` has no comment above it"
