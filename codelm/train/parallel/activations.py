"""What becomes of activations between forward and backward pass: kept, recomputed, or moved to the host."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import save_on_cpu
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

from codelm.config.training.parallel import ActivationCheckpointingSection
from codelm.errors import ConfigError

_PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)
_ATTENTION = (
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
)


def checkpoint_activations(
    model: PreTrainedModel, blocks: list[nn.Module], section: ActivationCheckpointingSection
) -> None:
    """Let every nth block forget its activations and compute them again in the backward pass.

    Raises:
        ConfigError: the model's blocks cannot, or not some of them alone.
    """
    if not model.supports_gradient_checkpointing:
        raise ConfigError(f"activation_checkpointing: {type(model).__name__} has none; set it to false")
    options: dict[str, Any] = {"use_reentrant": False}
    if section.selective:
        options["context_fn"] = _selective_contexts
    model.gradient_checkpointing_enable(options)
    if section.every == 1:
        return
    if not all(hasattr(block, "gradient_checkpointing") for block in blocks):
        raise ConfigError(
            f"activation_checkpointing.every: {type(model).__name__} recomputes all of its blocks or none; set every=1"
        )
    for index, block in enumerate(blocks):
        if index % section.every:
            block.gradient_checkpointing = False  # pyright: ignore[reportArgumentType]


def offload_activations(blocks: list[nn.Module]) -> None:
    """Keep what blocks save for the backward pass in the host's pinned memory until then."""
    for block in blocks:
        block.forward = _offloading(block.forward)


def _offloading(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        with save_on_cpu(pin_memory=torch.cuda.is_available()):
            return forward(*args, **kwargs)

    return call


def _selective_contexts() -> Any:
    # Forward pass and recomputation count apart, and must come to the same.
    counts = {False: 0, True: 0}

    def policy(context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
        if op in _ATTENTION:
            return CheckpointPolicy.MUST_SAVE
        if op in _PRODUCTS:
            counts[context.is_recompute] += 1
            if counts[context.is_recompute] % 2:
                return CheckpointPolicy.MUST_SAVE
        return CheckpointPolicy.PREFER_RECOMPUTE

    return create_selective_checkpoint_contexts(policy)
