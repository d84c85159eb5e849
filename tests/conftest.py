"""Shared builders: a small corpus of real code, prepared once a session, and training configurations over it."""

import os
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codelm.config.data import DataConfig
from codelm.config.train import TrainConfig
from codelm.data.prepare import prepare

CORPUS_SEQ_LEN = 256

# Two workers with a pool of threads each get in each other's way: a third of the processors' time. Torch reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders of long tests first, so that two workers end at the same time."""
    long = ("train", "recipes", "eval", "data", "export", "model")
    tests = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        folder = item.path.relative_to(tests).parts[0]
        return long.index(folder) if folder in long else len(long)

    items.sort(key=rank)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output folder of data_prep: Python and C from the standard library, 256-token samples, 512 tokens."""
    folder = tmp_path_factory.mktemp("corpus") / "data"
    settings = {
        "run_name": "corpus",
        "sources": {
            "python": {"path": sysconfig.get_path("stdlib"), "include": ["email/**", "json/**"], "licence": "PSF-2.0"},
            "c": {"path": sysconfig.get_path("include"), "include": ["cpython/**"], "licence": "PSF-2.0"},
        },
        "split": {"validation": 0.2},
        "tokenizer": {"train": {"vocab_size": 512, "sample_bytes": 200_000}},
        "max_seq_len": CORPUS_SEQ_LEN,
        "output_folder": str(folder),
        "num_workers": 1,
    }
    prepare(DataConfig.model_validate(settings))
    return folder


@pytest.fixture
def train_settings(corpus: Path, tmp_path: Path) -> dict[str, Any]:
    """The keys of a training run of eight small batches over `corpus`, with dropout so that random numbers matter."""
    return {
        "run_name": "test",
        "max_seq_len": CORPUS_SEQ_LEN,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2, "resid_pdrop": 0.1},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 4}},
        "optimizer": {"name": "lionw", "lr": 1e-3, "weight_decay": 1e-4},
        "scheduler": {"name": "cosine_with_warmup", "t_warmup": "2ba"},
        "max_duration": "8ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 2,
        "device": "cpu",
        "save_folder": str(tmp_path / "checkpoints"),
        "save_interval": "4ba",
    }


@pytest.fixture
def train_config(train_settings: dict[str, Any]) -> Callable[..., TrainConfig]:
    """A validated configuration; keyword arguments replace top-level keys."""

    def make(**changes: Any) -> TrainConfig:
        return TrainConfig.model_validate({**train_settings, **changes})

    return make
