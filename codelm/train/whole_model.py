"""The model in training as one that every rank can run alone: whole, in the precision of inference."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from composer.models import ComposerModel
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from codelm.train.checkpoints.weights import is_sharded, unwrapped


@contextmanager
def whole_model(
    trained: ComposerModel, shell: Callable[[], PreTrainedModel], device: torch.device
) -> Iterator[PreTrainedModel]:
    """A model with the present weights, whole on this rank's device; every rank must enter.

    Nothing that is computed with it needs another rank, and one whose memory is too small for it fails alone. Sharded
    weights are gathered once, tensor by tensor, in bf16 on a GPU and in fp32 on a CPU; whole fp32 weights on a GPU are
    copied to bf16; else it is the trained model itself.

    Args:
        shell: makes the same model without values, for sharded weights to be put into.
    """
    model = unwrapped(trained).model
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if is_sharded(model):
        found = shell()
        found.load_state_dict(_gathered(model, dtype), strict=False, assign=True)
        found.tie_weights()
        found.to(device)  # pyright: ignore[reportArgumentType]
        assert not any(parameter.is_meta for parameter in found.parameters())
    elif _is_plain(model) and next(model.parameters()).dtype != dtype:
        found = _cast_copy(model, dtype)
    else:
        found = model
    try:
        yield found
    finally:
        del found
        if device.type == "cuda":
            torch.cuda.empty_cache()


@torch.no_grad()
def _gathered(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True))
    else:
        weights = model.state_dict()
    found, failure = {}, None
    for name, tensor in weights.items():
        try:
            whole = _whole(tensor.detach(), dtype)  # pyright: ignore
        except torch.OutOfMemoryError as error:
            # The other ranks wait for this one's part of all the rest: it goes on, and keeps nothing.
            found, failure = {}, error
            torch.cuda.empty_cache()
            whole = _whole(tensor.detach(), dtype)  # pyright: ignore
        if failure is None:
            found[name] = whole
    if failure is not None:
        raise failure
    return found


def _whole(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.to(dtype)  # before it travels
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _is_plain(model: nn.Module) -> bool:
    """Whether all weights are of one floating-point type: none is packed into few bits."""
    kinds = {parameter.dtype for parameter in model.parameters()}
    return len(kinds) == 1 and next(iter(kinds)).is_floating_point


def _cast_copy(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """A copy whose parameters never exist twice in the old type."""
    cast = {
        id(parameter): nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, cast)
