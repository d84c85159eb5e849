"""`main.py FILE.yaml [key=value …]`: the flags, exit codes, and that nothing heavy is imported."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from codelm import __version__
from codelm.config.cli import parse_command_line
from codelm.errors import ConfigError

ROOT = Path(__file__).parents[2]
RECIPE = """
import sys
from codelm.config.cli import parse_command_line
from codelm.errors import exit_on_error

@exit_on_error
def main():
    command = parse_command_line("train")
    heavy = {"torch", "transformers", "composer", "numpy"} & sys.modules.keys()
    print(command.config.run_name, sorted(heavy))

main()
"""


def recipe(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RECIPE, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_flags_may_stand_anywhere_among_the_overrides(write):
    path = write("x.yaml", "train")
    for arguments in (
        [path, "seed=3", "--dry-run", "optimizer.lr=1e-3"],
        ["--dry-run", path, "seed=3", "optimizer.lr=1e-3"],
        [path, "--dry-run", "seed=3", "optimizer.lr=1e-3"],
    ):
        command = parse_command_line("train", arguments)
        assert command.dry_run
        assert (command.config.seed, command.config.optimizer.lr) == (3, 1e-3)
        assert command.overrides == ["seed=3", "optimizer.lr=1e-3"]


def test_a_recipe_may_add_flags(write):
    path = write("x.yaml", "train")
    command = parse_command_line(
        "train", [path, "--check-data"], extra=lambda parser: parser.add_argument("--check-data", action="store_true")
    )
    assert command.flags.check_data
    assert not command.dry_run


def test_help_says_what_the_recipe_does_and_how(capsys):
    with pytest.raises(SystemExit) as stop:
        parse_command_line("train", ["--help"], description="Train a model.")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for part in (
        "FILE.yaml",
        "key=value",
        "--print-config",
        "--schema",
        "--dry-run",
        "docs/configuration.md",
        "Train a",
    ):
        assert part in text


def test_version(capsys):
    with pytest.raises(SystemExit):
        parse_command_line("eval", ["--version"])
    assert capsys.readouterr().out == f"codelm {__version__}\n"


def test_print_config_loads_again(write, capsys):
    with pytest.raises(SystemExit) as stop:
        parse_command_line("train", [write("x.yaml", "train"), "seed=4", "--print-config"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("# resolved from x.yaml seed=4\n")
    assert yaml.safe_load(printed)["seed"] == 4
    assert parse_command_line("train", [write("y.yaml", printed)]).config.seed == 4


def test_schema_needs_no_file(capsys):
    with pytest.raises(SystemExit):
        parse_command_line("data", ["--schema"])
    assert json.loads(capsys.readouterr().out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


WRONG = {
    (): "name a YAML file, such as: composer train/main.py yamls/quickstart/train.yaml",
    ("seed=3",): "the YAML file comes first: composer train/main.py FILE.yaml seed=3",
    ("x.yaml", "--seed=3"): "unknown option --seed=3; a key of the configuration has no dashes: seed=3",
    ("x.yaml", "-n", "2"): "unknown option -n; composer's options stand before the recipe: composer -n 2 train/main.py"
    " FILE.yaml",
    ("x.yaml", "--dry"): "unknown option --dry; see composer train/main.py --help",
}


@pytest.mark.parametrize(("arguments", "message"), WRONG.items(), ids=map(str, WRONG))
def test_a_wrong_command_line_gets_a_sentence(arguments, message, write):
    write("x.yaml", "train")
    with pytest.raises(ConfigError) as caught:
        parse_command_line("train", list(arguments))
    assert str(caught.value) == message


def test_as_a_process_nothing_heavy_is_imported_and_problems_exit_with_2(write, tmp_path):
    path = write("x.yaml", "train")
    right = recipe(tmp_path, path, "seed=3")
    assert (right.stdout, right.stderr, right.returncode) == ("small []\n", "", 0)
    wrong = recipe(tmp_path, path, "seed=x", "sed=3")
    assert wrong.returncode == 2
    assert wrong.stdout == ""
    assert wrong.stderr == (
        "command line `seed=x`: seed: should be a whole number, not the text `x`\n"
        "command line `sed=3`: sed: unknown key; did you mean `seed`?\n"
    )


def test_under_a_launcher_rank_0_alone_prints(write, tmp_path):
    path = write("x.yaml", "train")
    for arguments in ((path, "--print-config"), ("--help",), ("--schema",), ("--version",)):
        first, second = recipe(tmp_path, *arguments, RANK="0"), recipe(tmp_path, *arguments, RANK="1")
        assert first.stdout + first.stderr != ""
        assert second.stdout + second.stderr == ""
        assert first.returncode == second.returncode


def test_under_a_launcher_the_other_ranks_let_rank_0_speak_first(write, tmp_path):
    """The launcher ends them then; a rank that is still there after it has a problem of its own, and says so."""
    path = write("x.yaml", "train")
    began = time.monotonic()
    wrong = recipe(tmp_path, path, "seed=x", RANK="0")
    spoken = time.monotonic() - began
    assert (wrong.stderr.startswith("command line `seed=x`"), wrong.returncode) == (True, 2)
    began = time.monotonic()
    wrong = recipe(tmp_path, path, "seed=x", RANK="1")
    assert time.monotonic() - began > spoken + 3
    assert (wrong.stderr.startswith("command line `seed=x`"), wrong.returncode) == (True, 2)


def test_the_training_recipe_itself_refuses_a_typo_before_importing_torch(write, tmp_path):
    path = write("x.yaml", "train")
    found = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "train" / "main.py"), path, "optimiser.lr=3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert found.returncode == 2
    assert "command line `optimiser.lr=3`: optimiser: unknown key; did you mean `optimizer`?" in found.stderr
    imported = {line.rpartition("|")[2].strip() for line in found.stderr.splitlines() if line.startswith("import time")}
    assert "codelm.config.load" in imported
    assert not imported & {"torch", "transformers", "composer"}
