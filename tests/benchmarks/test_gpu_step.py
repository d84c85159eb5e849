"""benchmarks/gpu_step.py runs as far as it can without a GPU, and counts operations as llm-foundry does."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_step.py"


def launch(*arguments: str) -> list[str]:
    result = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=True)
    return result.stdout.splitlines()


@pytest.fixture
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_step", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_tiny_model_is_measured_on_cpu() -> None:
    small = ("--size", "tiny", "--seq", "32", "--steps", "2", "--warmup", "1", "--device", "cpu", "--compile", "none")
    _, head, plain, checkpointed = launch(*small, "--attn", "torch,triton", "--ladder", "2ac", "--documents", "3")
    assert head.split()[:4] == ["attn", "compile", "loss", "batch"]
    one, other = plain.split(), checkpointed.split()
    assert (one[0], other[0]) == ("torch", "triton")
    assert one[3] == other[3] == "2ac"
    assert float(one[4].replace(",", "")) > 0
    assert one[5] == "?"
    # On CPU triton is torch.
    assert one[7] == other[7]


def test_without_a_gpu_the_table_says_so() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    _, _, line = launch("--size", "tiny", "--attn", "torch", "--compile", "none")
    assert line.split(maxsplit=3)[3] == "torch sees no CUDA device here"


def test_operations_a_token_are_llm_foundrys(script: ModuleType) -> None:
    assert script.flops_per_token(2_600_634_880, 32, 2560, 2048) == pytest.approx(17.62e9, rel=1e-3)


@pytest.mark.parametrize(("speed", "words"), [(27_000, "below the mark"), (28_000, "passes"), (33_000, "the aim")])
def test_the_marks(script: ModuleType, speed: float, words: str) -> None:
    found = {
        "device": "NVIDIA H200",
        "rung": "16",
        "tokens_per_s": speed,
        "flops_per_token": 17.62e9,
        "peak_gb": 1.0,
        "first_loss": 10.4,
    }
    line = script.row(("triton", "block", "default"), found, script.parse([]))
    assert line.endswith(words)
    assert f"{speed * 17.62e9 / 989e12:.1%}" in line
