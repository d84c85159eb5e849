"""Checkpoints to export: one as training leaves it, and the smallest models of the architecture with a tokenizer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from codelm.data.manifest import load_manifest
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.saving import save_transformers


@pytest.fixture
def make_checkpoint(corpus: Path, tmp_path: Path) -> Callable[..., Path]:
    """`make_checkpoint("name", expansion_ratio=2, …)`: a folder with a model drawn from seed 0."""

    def make(name: str = "model", scale: float = 1.0, **changes: Any) -> Path:
        torch.manual_seed(0)
        shape = {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 512, "max_seq_len": 128, **changes}
        config = ReplitCodeConfig(**shape)
        model = ReplitCodeForCausalLM(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    # Weights and biases of norms that are not all ones and zeros.
                    parameter += 0.1 * torch.randn_like(parameter)
                parameter *= scale
        save_transformers(model, config, corpus / "tokenizer", tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture
def checkpoint(corpus: Path, tmp_path: Path) -> Path:
    """A checkpoint as training leaves it: a save_folder with `latest`, and run.json."""
    torch.manual_seed(0)
    config = ReplitCodeConfig(d_model=32, n_heads=4, n_layers=2, vocab_size=512, max_seq_len=64)
    folder = tmp_path / "run" / "ba000012"
    folder.parent.mkdir()
    save_transformers(ReplitCodeForCausalLM(config), config, corpus / "tokenizer", folder)
    manifest = load_manifest(corpus)
    run = {
        "format": 1,
        "batch": 12,
        "tokens": 3072,
        "config": {
            "run_name": "small",
            "seed": 17,
            "max_seq_len": 64,
            "model": {"name": "replit_code"},
            "train_data": {"path": str(corpus), "split": "train"},
            "optimizer": {"name": "lionw", "lr": 0.001},
            "global_train_batch_size": 4,
            "load_path": None,
        },
        "tokenizer": manifest.tokenizer.to_dict(),
        "data": {"manifest_hash": manifest.hash, "mixture": {"python": 0.75, "c": 0.25}},
        "versions": {"torch": "2"},
    }
    (folder / "run.json").write_text(json.dumps(run))
    (folder.parent / "latest").symlink_to(folder.name)
    return folder.parent
