"""The sections of the configuration as the arguments that Composer's Trainer takes."""

import functools
import logging
from typing import Any

import torch
from composer import DataSpec, Evaluator, Event
from composer.core import Precision
from composer.utils import dist
from composer.utils.misc import create_interval_scheduler
from torch.utils.data import DataLoader

from codelm.config.model import ReplitCodeSection
from codelm.config.train import TrainConfig
from codelm.errors import ConfigError
from codelm.train.callbacks.speed import tokens_in
from codelm.train.composer_model import Batch
from codelm.train.parallel.fsdp import fsdp_config

log = logging.getLogger(__name__)

# The last evaluation comes before the last checkpoint, so that a kill between them loses neither.
_LAST_EVENTS = {Event.BATCH_END}


def count_tokens(batch: Batch) -> dict[str, int]:
    """Composer weighs microbatches and ranks by the tokens that are predicted: labels[t] is predicted from t - 1."""
    return {"total": tokens_in(batch), "loss_generating": int((batch["labels"][:, 1:] != -100).sum())}


def device(config: TrainConfig) -> str:
    """`cpu` or `gpu`.

    Raises:
        ConfigError: a GPU is asked for, and there is none.
    """
    if config.device == "gpu" and not torch.cuda.is_available():
        raise ConfigError("device is gpu, but torch sees no CUDA device here; set device=cpu or device=auto")
    if config.device == "auto":
        return "gpu" if torch.cuda.is_available() else "cpu"
    return config.device


def precision(config: TrainConfig) -> Precision:
    """Composer's precision.

    Raises:
        ConfigError: what `device` raises; or flash-attn, which has bf16 alone, would get fp32.
    """
    gpu = device(config) == "gpu"
    model = config.model
    attention = model.attn_config.attn_impl if isinstance(model, ReplitCodeSection) else model.attn_impl
    if gpu and attention == "flash" and config.precision == "fp32":
        raise ConfigError("precision is fp32, and model's attn_impl flash computes in bf16; set precision=amp_bf16")
    if config.precision == "amp_bf16" and not gpu and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        _warn_of_slow_bf16()
    if config.precision == "auto":
        return Precision.AMP_BF16 if gpu else Precision.FP32
    return Precision(config.precision)


@functools.cache
def _warn_of_slow_bf16() -> None:
    log.warning("precision amp_bf16: this CPU computes bf16 many times slower than fp32; fp32 trains faster here")


def parallelism(config: TrainConfig) -> dict[str, Any] | None:
    """FSDP, or None for DDP."""
    if config.fsdp_config is None:
        return None
    # Under the key "fsdp2" Composer ignores it and trains unsharded.
    return {"fsdp": fsdp_config(config.fsdp_config, dist.get_world_size(), dist.get_local_world_size())}


def every(batches: int) -> Any:
    """A schedule of evaluation: every so many batches and at the end."""
    return create_interval_scheduler(f"{batches}ba", checkpoint_events=False, final_events=_LAST_EVENTS)


def evaluators(loaders: dict[str, DataLoader]) -> list[Evaluator]:
    """One for each language, under its label."""
    return [
        Evaluator(label=label, dataloader=DataSpec(loader, get_num_tokens_in_batch=count_tokens))
        for label, loader in loaders.items()
    ]
