"""The optimizer benchmark runs."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

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
