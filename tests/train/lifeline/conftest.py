"""A run of two ranks that is quick to begin and to end."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def small(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of eight tiny batches on two ranks, with dropout, so that random numbers matter."""
    return {
        "run_name": "small",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 16, "n_heads": 2, "n_layers": 1, "resid_pdrop": 0.1},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "optimizer": {"name": "lionw", "lr": 1e-3, "weight_decay": 1e-4},
        "max_duration": "8ba",
        "global_train_batch_size": 2,
        "device_train_microbatch_size": 1,
        "device": "cpu",
        "save_folder": str(tmp_path / "checkpoints"),
        "save_interval": "4ba",
    }
