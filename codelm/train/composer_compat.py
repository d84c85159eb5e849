"""Everything that Composer 0.32 needs patched or guarded, each with its reason and the version that needs it no longer.

`apply()` is called once, before a Trainer is built. Silent traps that need no patch are avoided where they would bite:
FSDP2 is always passed as `{"fsdp": FSDP2Config(...)}` (a dict under "fsdp2" is ignored), and `spin_dataloaders` is off.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

import composer.core.precision as composer_precision
import composer.distributed.dist_strategy as dist_strategy
import composer.distributed.prepare_distributed as prepare_distributed
import composer.trainer.trainer as composer_trainer
import torch
import torch.distributed as torch_dist
from composer import Trainer
from composer.core import Precision
from composer.utils.collect_env import get_composer_commit_hash, get_composer_version
from packaging.version import Version

from codelm.train.parallel.initial import materialise

log = logging.getLogger(__name__)

_applied = False


def apply() -> None:
    """Make Composer safe and right on both stacks; calling it again does nothing."""
    global _applied
    if _applied:
        return
    _applied = True
    # Third-party deprecation noise that a user can do nothing about.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch|composer|transformers")
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.distributed|composer")
    _understand_torchrun()
    _average_on_gloo()
    _autocast_on_cpu()
    _survive_batches_without_loss()
    _start_no_process_to_name_the_processor()
    # Composer 0.32's own allocates on CUDA whatever the device is, and would draw other weights than an unsharded run.
    prepare_distributed.meta_init = materialise


def _understand_torchrun() -> None:
    """Composer 0.32 reads in NODE_RANK which node a rank is on, as its launcher says; torchrun says GROUP_RANK."""
    if "GROUP_RANK" in os.environ:
        os.environ.setdefault("NODE_RANK", os.environ["GROUP_RANK"])


def _average_on_gloo() -> None:
    """gloo in torch 2.7 returns the sum where FSDP2 asks for the average of the gradients; 2.11 is right.

    Adam and Lion hide it; gradient clipping and SGD do not.
    """
    if Version(torch.__version__.split("+")[0]) >= Version("2.8"):
        return
    reduce_scatter = torch_dist.reduce_scatter_tensor

    def averaging(output: torch.Tensor, input: torch.Tensor, op: Any = torch_dist.ReduceOp.SUM, *args: Any, **kw: Any):
        if op != torch_dist.ReduceOp.AVG or torch_dist.get_backend(kw.get("group")) != "gloo":
            return reduce_scatter(output, input, op, *args, **kw)
        work = reduce_scatter(output, input, torch_dist.ReduceOp.SUM, *args, **kw)
        if work is not None:
            work.wait()
        output.div_(torch_dist.get_world_size(kw.get("group")))
        return work

    torch_dist.reduce_scatter_tensor = averaging


def _autocast_on_cpu() -> None:
    """Composer 0.32 refuses bf16 on CPU where it checks a precision, and computes in fp32 where it does not check."""
    context = composer_precision.get_precision_context

    @contextlib.contextmanager
    def autocasting(precision: Any, *args: Any, **kwargs: Any) -> Iterator[None]:
        bf16 = Precision(precision) == Precision.AMP_BF16
        with context(precision, *args, **kwargs), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            yield

    composer_precision.get_precision_context = composer_trainer.get_precision_context = autocasting
    for checking in (composer_trainer, dist_strategy, prepare_distributed):
        checking._validate_precision = lambda precision, device: None  # pyright: ignore


def _survive_batches_without_loss() -> None:
    """Composer 0.32 divides by the predicted tokens of the global batch, of which padding and prompts may leave none.

    The weight of each microbatch is then 0 / 1: the batch's loss and gradients are zero.
    """
    train_microbatch = Trainer._train_microbatch

    def surviving(self: Trainer, use_grad_scaling: bool, current_batch_size: float, is_final_microbatch: bool) -> Any:
        return train_microbatch(self, use_grad_scaling, current_batch_size or 1.0, is_final_microbatch)

    Trainer._train_microbatch = surviving


def _start_no_process_to_name_the_processor() -> None:
    """Composer 0.32's Trainer collects all of the environment to log two things of it.

    For the processor's name, which it does not log, py-cpuinfo starts another Python on every rank: a second or more.
    """
    composer_trainer.get_composer_env_dict = lambda: {
        "composer_version": get_composer_version(),
        "composer_commit_hash": get_composer_commit_hash(),
    }
