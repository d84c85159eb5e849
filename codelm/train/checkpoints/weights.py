"""The weights of a model in training, wrapped or sharded as it may be."""

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from codelm.train.adapters import adapter_parameters, has_adapters
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


def weights_to_save(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What a checkpoint holds of the transformers model, whole, on CPU: all weights, or the adapters that are trained.

    Every rank must call; rank 0 alone gets it under FSDP.
    """
    inner = unwrapped(model).model
    if not has_adapters(inner):
        return full_weights(model)
    whole = {
        name: parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        for name, parameter in adapter_parameters(inner).items()
    }
    return {name: tensor.detach().cpu() for name, tensor in whole.items()}


def full_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The transformers model's whole state dict on CPU; every rank must call, rank 0 alone gets it under FSDP."""
    inner = unwrapped(model).model
    if is_sharded(inner):
        return dict(get_model_state_dict(inner, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))  # pyright: ignore
    return {name: tensor.detach().cpu() for name, tensor in inner.state_dict().items()}


def names_in_transformers_folder(model: torch.nn.Module) -> set[str]:
    """The names of the tensors that `model.safetensors` holds, known to every rank: they are not saved twice."""
    inner = unwrapped(model).model
    return set() if has_adapters(inner) else set(inner.state_dict())
