"""The planner's memory of a process on this machine against the resident peak of real runs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN = """
import json, resource, sys
from codelm.config.train import TrainConfig
from codelm.train.run import train
train(TrainConfig.model_validate(json.loads(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
PLAN = """
import json, sys
from codelm.config.train import TrainConfig
from codelm.train.planning.machine import processor
from codelm.train.planning.plan import make_plan
from codelm.train.planning.process import training_process_bytes
machine = processor(training_process_bytes(), None)
print(make_plan(TrainConfig.model_validate(json.loads(sys.argv[1])), machine, search=False).memory.total)
"""
SIZES: dict[str, dict[str, Any]] = {
    "4 blocks of 256": {"model": {"d_model": 256, "n_heads": 4, "n_layers": 4}},
    "8 blocks of 512": {"model": {"d_model": 512, "n_heads": 8, "n_layers": 8}},
    "12 blocks of 768": {"model": {"d_model": 768, "n_heads": 12, "n_layers": 12}, "max_duration": "3ba"},
    "accumulated": {"model": {"d_model": 512, "n_heads": 8, "n_layers": 8}, "device_train_microbatch_size": 2},
    "recomputed": {"model": {"d_model": 512, "n_heads": 8, "n_layers": 8}, "activation_checkpointing": True},
    "adamw": {"model": {"d_model": 512, "n_heads": 8, "n_layers": 8}, "optimizer": {"name": "adamw", "lr": 1e-4}},
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("size", SIZES)
def test_it_is_within_a_tenth(size: str, train_settings: dict[str, Any], tmp_path: Path) -> None:
    changes = {**SIZES[size]}
    model = {"name": "replit_code", **changes.pop("model")}
    settings = {
        **train_settings,
        "model": model,
        "global_train_batch_size": 8,
        "device_train_microbatch_size": 8,
        "eval_data": {},
        "max_duration": "5ba",
        "save_interval": "100ba",
        "save_folder": str(tmp_path / "run"),
        **changes,
    }
    found = [
        float(
            subprocess.run(
                [sys.executable, "-c", script, json.dumps(settings)],
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.split()[-1]
        )
        for script in (RUN, PLAN)
    ]
    print(f"{size}: measured {found[0] / 1e6:.0f} MB, predicted {found[1] / 1e6:.0f} MB")
    assert found[1] == pytest.approx(found[0], rel=0.10)
