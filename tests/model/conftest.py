"""A small tokenizer of real code and the smallest models of the architecture."""

import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.tokenizer_training import train_tokenizer

VOCAB = 600


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a `spiece.model` of 600 tokens, trained on the standard library."""
    folder = tmp_path_factory.mktemp("tokenizer")
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:20]
    train_tokenizer([file.read_bytes().decode() for file in files], VOCAB, folder)
    return folder


@pytest.fixture
def make_model() -> Callable[..., ReplitCodeForCausalLM]:
    """`make_model(n_heads=6, …)`: a model in evaluation mode, drawn from seed 0."""

    def make(**changes: Any) -> ReplitCodeForCausalLM:
        torch.manual_seed(0)
        shape = {"d_model": 48, "n_heads": 4, "n_layers": 2, "vocab_size": VOCAB, "max_seq_len": 64, **changes}
        return ReplitCodeForCausalLM(ReplitCodeConfig(**shape)).eval()

    return make


@pytest.fixture
def ids() -> torch.Tensor:
    """Token ids `(2, 40)`."""
    return torch.randint(3, VOCAB, (2, 40), generator=torch.Generator().manual_seed(1))
