"""Training starts without the packages that it does not use, and they stay importable."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import codelm.train.composer_compat
assert "composer.models.huggingface" in sys.modules
assert "peft" not in sys.modules, "peft"
import peft
assert peft.LoraConfig
"""


def test_composer_does_not_bring_peft_which_can_be_imported_later() -> None:
    pytest.importorskip("peft")
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
