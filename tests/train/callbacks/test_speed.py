"""Speed, MFU and waiting for data are those of a clock that the test turns."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from codelm.train.callbacks import speed
from codelm.train.callbacks.speed import SpeedMonitor


class Logged(dict[str, float]):
    def log_metrics(self, metrics: dict[str, float]) -> None:
        self.update(metrics)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    return now


def run(monitor: SpeedMonitor, clock: list[float], steps: int, waited: float, computed: float) -> Logged:
    state: Any = SimpleNamespace(batch={"input_ids": torch.zeros(2, 50)})
    logged: Any = Logged()
    for _ in range(steps):
        monitor.before_dataloader(state, logged)
        clock[0] += waited
        monitor.after_dataloader(state, logged)
        clock[0] += computed
        monitor.batch_end(state, logged)
        clock[0] += 1000.0  # an evaluation
    return logged


def test_tokens_a_second_and_mfu_count_the_waiting_and_leave_evaluation_out(clock: list[float]) -> None:
    logged = run(SpeedMonitor(10, flops_per_token=3e9, peak_flops=1e12), clock, steps=3, waited=0.5, computed=1.5)
    assert logged["throughput/tokens_per_sec"] == pytest.approx(50.0)
    assert logged["throughput/mfu"] == pytest.approx(0.15)
    assert logged["throughput/tflops_per_device"] == pytest.approx(0.15)
    assert logged["time/data_wait_share"] == pytest.approx(0.25)
    assert logged["time/step_seconds"] == pytest.approx(2.0)


def test_only_the_last_batches_count(clock: list[float]) -> None:
    monitor = SpeedMonitor(2, flops_per_token=1.0, peak_flops=None)
    run(monitor, clock, steps=5, waited=0.0, computed=100.0)
    logged = run(monitor, clock, steps=2, waited=0.0, computed=1.0)
    assert logged["throughput/tokens_per_sec"] == pytest.approx(100.0)


def test_without_a_known_peak_there_is_no_mfu(clock: list[float]) -> None:
    logged = run(SpeedMonitor(2, 1.0, None), clock, steps=1, waited=0.0, computed=1.0)
    assert "throughput/mfu" not in logged
