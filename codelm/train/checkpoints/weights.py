"""The weights of a model in training, wrapped or sharded as it may be."""

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from codelm.train.composer_model import ComposerCausalLM


def unwrapped(model: torch.nn.Module) -> ComposerCausalLM:
    """The ComposerModel inside DDP, if any."""
    inner = model.module if isinstance(model, DistributedDataParallel) else model
    assert isinstance(inner, ComposerCausalLM)
    return inner


def is_sharded(model: torch.nn.Module) -> bool:
    """Whether parameters are spread over ranks."""
    return any(isinstance(module, FullyShardedDataParallel) for module in model.modules()) or any(
        isinstance(parameter, DTensor) for parameter in model.parameters()
    )


def full_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The transformers model's whole state dict on CPU; every rank must call, rank 0 alone gets it under FSDP."""
    inner = unwrapped(model).model
    if is_sharded(inner):
        return dict(get_model_state_dict(inner, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))  # pyright: ignore
    return {name: tensor.detach().cpu() for name, tensor in inner.state_dict().items()}


def names_in_transformers_folder(model: torch.nn.Module) -> set[str]:
    """The names under which `full_weights` gives the tensors, known to every rank: they are not saved twice."""
    return set(unwrapped(model).model.state_dict())
