"""The optimizer benchmark runs, and on a GPU our step is the fastest of the three Lions."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "optimizer.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("optimizer_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_measures_every_optimizer(benchmark: ModuleType) -> None:
    lines: list[dict[str, Any]] = benchmark.measure("cpu", 16, 1, 64, 2)
    assert [line["optimizer"] for line in lines][:3] == ["codelm LionW", "lion-pytorch", "lion-pytorch foreach"]
    assert all(line["ms"] >= 0 for line in lines)


@pytest.mark.slow
def test_on_a_processor_lionw_is_not_slower_than_lion_pytorch(benchmark: ModuleType) -> None:
    lines = benchmark.measure("cpu", 512, 4, 8192, 8)
    assert lines[0]["lion-pytorch ÷ this"] >= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_lionw_is_not_slower_than_foreach(benchmark: ModuleType) -> None:
    lines = benchmark.measure("cuda", 2048, 8, 32768, 20)
    assert lines[0]["foreach ÷ this"] >= 1
