"""Training starts without the packages that it does not use, and they stay importable."""

import importlib.util
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import codelm.train.composer_compat
assert "composer.models.huggingface" in sys.modules
assert not {"peft", "mcli"} & sys.modules.keys(), sys.modules.keys()
import peft
assert peft.LoraConfig
import mcli
assert mcli.__file__
"""


def test_composer_does_not_bring_what_can_be_imported_later() -> None:
    for package in ("peft", "mcli"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
