"""`compile: {mode: block}`: torch.compile for each decoder block; one graph serves all blocks of a shape.

Compiling block by block takes seconds where a whole deep model takes minutes, keeps the names in the state dict, and
goes together with activation checkpointing (set before) and FSDP2 (which wraps the blocks after).
"""

import logging
import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from codelm.errors import EnvironmentFailure

log = logging.getLogger(__name__)


def compile_blocks(blocks: list[nn.Module], device: str, backend: str = "inductor") -> None:
    """Compile blocks in place, for their training passes; evaluation and generation run them as they are written.

    Passes without gradients come in ever other shapes (a growing cache, the last batch of a set), each of which would
    be compiled anew.

    Args:
        device: `cpu` or `gpu`.
        backend: torch.compile's.

    Raises:
        EnvironmentFailure: there is no C++ compiler, which inductor needs on CPU.
    """
    if device == "cpu" and backend == "inductor":
        check_compiler()
    for block in blocks:
        block.compile(backend=backend)
        block._compiled_call_impl = _in_training(block, block._compiled_call_impl)  # pyright: ignore
    log.info("compiling %d blocks; the first batch takes longer", len(blocks))


def check_compiler() -> None:
    """Refuse to compile for CPU where torch would find no C++ compiler.

    Raises:
        EnvironmentFailure: with the remedy.
    """
    if not has_compiler():
        raise EnvironmentFailure(
            f"compile: torch.compile needs a C++ compiler on CPU, and {os.environ.get('CXX', 'g++')} is not found;"
            " install one (apt-get install g++), or set compile=null"
        )


def has_compiler() -> bool:
    """Whether there is the compiler that torch.compile takes on CPU: $CXX, else g++."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def _in_training(block: nn.Module, compiled: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        trains = block.training and torch.is_grad_enabled()
        return (compiled if trains else block._call_impl)(*args, **kwargs)

    return call
