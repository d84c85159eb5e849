"""Ctrl-C while a recipe is still importing: one word, as at any other time."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Of those that import much before they read their command line.
RECIPES = [
    "train/main.py", "train/plan.py",
    "data_prep/main.py", "data_prep/train_tokenizer.py", "data_prep/show.py",
    "eval/main.py", "eval/compare.py", "eval/judge.py", "eval/build_repo_benchmark.py", "eval/canaries.py",
]  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_ctrl_c_while_a_recipe_imports_is_one_word(recipe: str) -> None:
    process = subprocess.Popen(
        [sys.executable, ROOT / recipe, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        while not any(
            name in Path(f"/proc/{process.pid}/maps").read_text() for name in ("pydantic_core", "_multiarray")
        ):
            assert process.poll() is None
        os.kill(process.pid, signal.SIGINT)
        assert (*process.communicate(timeout=60), process.returncode) == ("", "\ninterrupted\n", 130)
