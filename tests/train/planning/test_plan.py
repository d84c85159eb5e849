"""Plans: how memory is spread, what does not fit, and how far predictions are from llm-foundry's published runs."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codelm.config.train import TrainConfig
from codelm.errors import ConfigError
from codelm.train.planning.machine import Machine, gpus
from codelm.train.planning.plan import Plan, make_plan

Make = Callable[..., TrainConfig]
GB = 1e9
ROOT = Path(__file__).parents[3]
specification = importlib.util.spec_from_file_location("planning", ROOT / "benchmarks" / "planning.py")
assert specification is not None
assert specification.loader is not None
benchmark = importlib.util.module_from_spec(specification)
specification.loader.exec_module(benchmark)


def machine(name: str = "a100-80gb", count: int = 8, network: float = 25 * GB) -> Machine:
    return gpus(name, count, 8, network, None)


@pytest.fixture
def small(train_config: Make) -> Make:
    """A run of GPUs whose model section is small, so that a plan takes no time."""

    def configured(**changes: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "model": {"name": "replit_code", "d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 512},
            "global_train_batch_size": 16,
            "device_train_microbatch_size": 1,
            "precision": "amp_bf16",
            "max_duration": "100ba",
        }
        return train_config(**{**settings, **changes})

    return configured


def plan(config: TrainConfig, on: Machine) -> Plan:
    return make_plan(config, on, vocab_size=512, search=False)


def test_fsdp_shards_what_ddp_keeps_whole(small: Make) -> None:
    alone, ddp = plan(small(), machine(count=1)), plan(small(), machine())
    fsdp = plan(small(fsdp_config={}), machine())
    assert ddp.memory.weights == alone.memory.weights == 4 * alone.parameters
    assert fsdp.memory.weights == ddp.memory.weights / 8
    assert fsdp.memory.optimizer == fsdp.memory.gradients == fsdp.memory.weights
    assert ddp.memory.communication == 4 * alone.parameters


def test_hybrid_sharding_shards_within_a_node(small: Make) -> None:
    found = plan(small(fsdp_config={"version": 1, "sharding_strategy": "HYBRID_SHARD"}), machine(count=16))
    assert found.memory.weights == 4 * found.parameters / 8


def test_adamw_keeps_twice_what_lion_keeps(small: Make) -> None:
    lion, adamw = plan(small(), machine()), plan(small(optimizer={"name": "adamw", "lr": 1e-3}), machine())
    assert adamw.memory.optimizer == 2 * lion.memory.optimizer


def test_time_energy_and_money_follow_from_the_step(small: Make) -> None:
    found = make_plan(small(), gpus("h100", 8, 8, 25 * GB, 2.5), vocab_size=512, search=False)
    assert found.tokens == 100 * 16 * 256
    assert found.seconds == pytest.approx(100 * found.step_seconds)
    assert found.tokens_per_second == pytest.approx(16 * 256 / found.step_seconds)
    hours = found.seconds / 3600
    assert found.dollars == pytest.approx(hours * 8 * 2.5)
    assert found.kwh == pytest.approx(hours * 8 * 0.7)


def test_the_largest_microbatch_fits_and_a_larger_one_does_not(train_config: Make) -> None:
    config = train_config(
        model={"name": "replit_code", "size": "125m", "vocab_size": 32768},
        max_seq_len=2048,
        global_train_batch_size=1024,
        device_train_microbatch_size="auto",
        precision="amp_bf16",
        max_duration="10ba",
    )
    on = machine("rtx-3090", count=1)
    found = make_plan(config, on)
    assert found.fits
    assert found.microbatch == found.largest_microbatch
    assert 4 <= found.microbatch < 64
    beyond = config.model_copy(update={"device_train_microbatch_size": found.microbatch + 1})
    assert not make_plan(beyond, on, search=False).fits


def test_bad_questions_have_one_sentence(small: Make) -> None:
    with pytest.raises(ConfigError, match="gpu: there is no `a200` in the table; it has cpu, b200"):
        gpus("a200", 1, 8, GB, None)
    with pytest.raises(ConfigError, match="global_train_batch_size 16 does not divide over gpus=3"):
        plan(small(), machine(count=3))
    with pytest.raises(ConfigError, match="max_duration is 2ep, and the prepared data, which tell how long"):
        plan(small(max_duration="2ep"), machine())


@pytest.mark.slow
def test_predictions_are_near_the_published_runs() -> None:
    errors = {}
    for row in benchmark.published():
        plan, errors[benchmark.name_of(row)] = benchmark.predicted(row)
        # They ran with these microbatches, so these fit.
        assert plan.memory.total < plan.capacity, row
    assert len(errors) == 36
    assert sum(map(abs, errors.values())) / len(errors) < 0.07, errors
    assert max(map(abs, errors.values())) < 0.20, errors


def test_a_published_run_with_which_nothing_was_fitted() -> None:
    row = next(row for row in benchmark.published() if benchmark.name_of(row) == "a100-40gb-8-3b-2048-5")
    plan, error = benchmark.predicted(row)
    assert abs(error) < 0.06
    assert 30e9 < plan.memory.total < 40e9


def test_the_recipe_prints_json_without_data_or_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "train/plan.py", "yamls/pretrain/125m.yaml", "gpus=8", "gpu=a100-40gb", "--json"]
    found = json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert found["devices"] == 8
    assert found["fits"]
    assert found["memory"]["total"] < 40e9
    assert found["largest_microbatch"] >= found["microbatch"]


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("gpus=many", "gpus should be a number"),
        ("price=0", "price should be above 0"),
        ("gpu=x", "no `x` in the table"),
    ],
)
def test_the_recipe_refuses_with_a_sentence(argument: str, sentence: str) -> None:
    command = [sys.executable, "train/plan.py", "yamls/pretrain/125m.yaml", argument]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 2
    assert sentence in found.stderr
    assert "Traceback" not in found.stderr
