"""A tiny run on one rank, finished once for the tests that only need its folder."""

from pathlib import Path
from typing import Any

import pytest

from codelm.config.train import TrainConfig
from codelm.train.run import train


@pytest.fixture(scope="session")
def tiny(corpus: Path) -> dict[str, Any]:
    """The keys of a run of four batches with two checkpoints; dropout, so that random numbers matter."""
    return {
        "run_name": "tiny",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2, "resid_pdrop": 0.1},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "optimizer": {"name": "adamw", "lr": 1e-3},
        "max_duration": "4ba",
        "global_train_batch_size": 2,
        "device_train_microbatch_size": 2,
        "device": "cpu",
        "save_interval": "2ba",
    }


@pytest.fixture(scope="session")
def whole(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """A finished run; copy its folder before changing it."""
    config = TrainConfig.model_validate({**tiny, "save_folder": str(tmp_path_factory.mktemp("tiny") / "whole")})
    train(config)
    return config
