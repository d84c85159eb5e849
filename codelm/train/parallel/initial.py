"""First weights that do not depend on how a run is spread: on ranks, devices, or the order in which they are drawn.

Under FSDP no rank holds a whole fresh model: it is built without memory ("meta") on all ranks; once sharded, each
module's weights are drawn whole, one module at a time, from a seed of its name, and a rank keeps its part. Any other
model (pretrained, from load_path, of transformers) is built on rank 0 in the host's memory and handed to the others
part by part; these build it without memory.
"""

import contextlib
import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM

T = TypeVar("T")


def draw_weights(model: PreTrainedModel, seed: int) -> None:
    """Give every weight its first value, a function of the seed and the weight's name alone.

    Weights may be whole or spread over ranks (DTensor); torch's generators stay as they are.
    """
    done: set[int] = set()
    for name, module in model.named_modules():
        draw_module(model, name, module, seed, done)


def draw_module(model: PreTrainedModel, name: str, module: nn.Module, seed: int, done: set[int]) -> None:
    """Draw the weights of one module that are its own and not in `done`, which gets their ids."""
    own = {key: value for key, value in module._parameters.items() if value is not None and id(value) not in done}
    if not own:
        return
    done.update(map(id, own.values()))
    twin = copy.copy(module)
    twin._parameters = {key: nn.Parameter(torch.empty(value.shape)) for key, value in own.items()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_seed_of(seed, name))
        model._init_weights(twin)
    for key, parameter in own.items():
        _take(parameter, twin._parameters[key])


def fresh_model(config: ReplitCodeConfig, seed: int) -> ReplitCodeForCausalLM:
    """A whole model in the host's memory with its first weights."""
    model = shapes_only(config, seed)
    model.to_empty(device="cpu")
    model.tie_weights()
    draw_weights(model, seed)
    return model


def shapes_only(config: ReplitCodeConfig, seed: int) -> ReplitCodeForCausalLM:
    """A model without values; they come when it is sharded, from `materialise` or, under FSDP1, module by module."""
    with torch.device("meta"):
        model = ReplitCodeForCausalLM(config)
    model.param_init_fn = FirstWeights(model, seed)  # pyright: ignore[reportArgumentType]
    return model


class FirstWeights:
    """What FSDP1 calls with each module once it is allocated on its device, before it is sharded."""

    def __init__(self, model: PreTrainedModel, seed: int) -> None:
        self.model = model
        self.seed = seed
        self.names = {module: name for name, module in model.named_modules()}

    def __call__(self, module: nn.Module) -> None:
        draw_module(self.model, self.names[module], module, self.seed, set())


def without_memory(build: Callable[[], T]) -> T:
    """Build a model whose parameters have shapes and no values; its buffers are real."""
    with _parameters_on_meta():
        return build()


def materialise(model: nn.Module) -> None:
    """Allocate the parts of a sharded model of shapes only, where its ranks are, and draw their first weights."""
    for child in model.modules():
        if not isinstance(child, ReplitCodeForCausalLM) or not next(child.parameters()).is_meta:
            continue
        # Buffers would lose their values.
        assert not [*child.buffers()]
        assert isinstance(child.lm_head.weight, DTensor)
        child.to_empty(device=child.lm_head.weight.device_mesh.device_type)
        draw_weights(child, child.param_init_fn.seed)  # pyright: ignore
    assert not any(parameter.is_meta for parameter in model.parameters())


@torch.no_grad()
def _take(parameter: nn.Parameter, whole: torch.Tensor | None) -> None:
    assert whole is not None
    if isinstance(parameter, DTensor):
        local = parameter.to_local()
        # Every rank has drawn the same, so nothing is sent.
        spread = distribute_tensor(
            whole.detach().to(local.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
        local.copy_(spread.to_local())
    else:
        parameter.copy_(whole)


def _seed_of(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4])


@contextlib.contextmanager
def _parameters_on_meta() -> Iterator[None]:
    """Move each parameter to the meta device as it is registered."""
    register = nn.Module.register_parameter

    def registering(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        # Tied weights are registered again, and stay one.
        if parameter is not None and not parameter.is_meta:
            shell = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
            shell.__dict__.update(parameter.__dict__)  # pyright: ignore
            module._parameters[name] = shell

    nn.Module.register_parameter = registering  # pyright: ignore
    try:
        yield
    finally:
        nn.Module.register_parameter = register
