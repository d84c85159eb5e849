"""What a microbatch takes: bytes at the peak, and kernels, noted on a model without contents.

Blocks are all alike, and so are samples: a model of two blocks and one of three, with one microbatch and a larger one,
tell what any depth and any microbatch take. For that, what is computed once for all blocks must be small: the
attention's bias, which may be larger than two blocks' activations, is left out here.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from codelm.config.model import HfCausalLMSection, ReplitCodeSection
from codelm.config.peft import AdapterKeys
from codelm.config.train import TrainConfig
from codelm.errors import ConfigError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM, modeling
from codelm.model import loss as model_loss
from codelm.model.adapters import NAME, import_peft
from codelm.train.chunked_loss import compute_loss_in_chunks
from codelm.train.composer_model import transformer_blocks
from codelm.train.flops import ModelCosts, model_costs
from codelm.train.parallel.activations import checkpoint_activations
from codelm.train.planning.meter import Meter, Operation

_DEPTHS = (2, 3)


@dataclass(frozen=True)
class Footprint:
    """One forward and backward pass of a microbatch."""

    activations: float
    """Bytes at the peak, beside weights, and gradients if these were there before."""
    operations: dict[Operation, float]
    """Kernels by how often they run; interpolated, so not a whole number."""


@dataclass(frozen=True)
class Architecture:
    """A model that can be built without contents, in any depth."""

    section: ReplitCodeSection | HfCausalLMSection
    config: Any
    """transformers' configuration."""
    layers: int
    costs: ModelCosts
    largest_block: int
    """Parameters of the largest block."""
    biggest_other: int
    """Parameters outside the blocks."""


def architecture(config: TrainConfig, vocab_size: int) -> Architecture:
    """The model of a run.

    Args:
        vocab_size: where the model section names none.

    Raises:
        ConfigError: transformers cannot find the model.
    """
    section = config.model
    if isinstance(section, ReplitCodeSection):
        fields = section.model_dump(exclude={"name", "size", "vocab_size", *AdapterKeys.model_fields})
        found: Any = ReplitCodeConfig(
            **fields, vocab_size=section.vocab_size or vocab_size, max_seq_len=config.max_seq_len
        )
    else:
        name = section.pretrained_model_name_or_path
        try:
            found = AutoConfig.from_pretrained(name, trust_remote_code=False)
        except Exception as error:  # transformers raises whatever the damage leads to
            first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ConfigError(f"model.pretrained_model_name_or_path {name} cannot be loaded: {first_line}") from error
    layers = found.num_hidden_layers
    with torch.device("meta"):
        model = _bare(section, found, layers)
    blocks = [sum(p.numel() for p in block.parameters()) for block in transformer_blocks(model)]
    costs = model_costs(model, config.max_seq_len)
    return Architecture(section, found, layers, costs, max(blocks), costs.parameters - sum(blocks))


@dataclass(frozen=True)
class Conditions:
    """How a pass is computed."""

    dtype: torch.dtype
    """Of the weights in the pass: bfloat16 where FSDP gathers them so, else float32."""
    mixed: bool
    """Under autocast in bfloat16."""
    chunk: int
    """Logits that the loss computes at once, see `codelm.model.loss`."""
    accumulates: bool
    """Gradients are there before the pass."""


def footprint(plan: Architecture, config: TrainConfig, microbatch: int, under: Conditions) -> Footprint:
    """What a microbatch of so many samples takes."""
    few = max(1, min(microbatch, -(-2 * under.chunk // (config.max_seq_len * plan.config.vocab_size))))
    if microbatch <= few + 1:
        return _of_depth(plan, config, microbatch, under)
    one, other = (_of_depth(plan, config, size, under) for size in (few, few + 1))
    return _extrapolated(one, other, (few, few + 1), microbatch)


def _of_depth(plan: Architecture, config: TrainConfig, microbatch: int, under: Conditions) -> Footprint:
    if plan.layers <= _DEPTHS[1]:
        return _measured(plan, config, plan.layers, microbatch, under)
    one, other = (_measured(plan, config, depth, microbatch, under) for depth in _DEPTHS)
    return _extrapolated(one, other, _DEPTHS, plan.layers)


def _extrapolated(one: Footprint, other: Footprint, at: tuple[int, int], wanted: int) -> Footprint:
    share = (wanted - at[0]) / (at[1] - at[0])

    def line(first: float, second: float) -> float:
        return first + share * (second - first)

    sums: dict[Operation, float] = {}
    for operations, weight in ((one.operations, 1 - share), (other.operations, share)):
        for operation, count in operations.items():
            sums[operation] = sums.get(operation, 0.0) + weight * count
    return Footprint(
        line(one.activations, other.activations),
        {operation: count for operation, count in sums.items() if count},
    )


def _measured(plan: Architecture, config: TrainConfig, depth: int, microbatch: int, under: Conditions) -> Footprint:
    with FakeTensorMode(allow_non_fake_inputs=True), _chunks_of(under.chunk), _fused_attention():
        model = _model(plan, config, depth, under.dtype)
        weights = [*model.parameters()]
        if under.accumulates:
            for weight in weights:
                weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
        with Meter() as meter, torch.autocast("cpu", torch.bfloat16, enabled=under.mixed):
            meter.leave_out([*weights, *(weight.grad for weight in weights if weight.grad is not None)])
            _loss(model, torch.zeros(microbatch, config.max_seq_len, dtype=torch.long)).backward()
    return Footprint(meter.peak, {operation: float(count) for operation, count in meter.operations.items()})


def _loss(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    given = {} if isinstance(model, ReplitCodeForCausalLM) else {"position_ids": torch.zeros_like(ids).cumsum(1)}
    call: Any = model
    return call(input_ids=ids, labels=ids, use_cache=False, **given).loss


def _model(plan: Architecture, config: TrainConfig, depth: int, dtype: torch.dtype) -> PreTrainedModel:
    with _default_dtype(dtype), torch.device("meta"):
        model = _bare(plan.section, plan.config, depth).train()
    _as_if_on_cpu(model)
    if config.activation_checkpointing is not None:
        checkpoint_activations(model, transformer_blocks(model), config.activation_checkpointing)
    head = model.get_output_embeddings()
    if not isinstance(model, ReplitCodeForCausalLM) and type(head) is torch.nn.Linear and head.bias is None:
        compute_loss_in_chunks(model)
    return model


def _bare(section: ReplitCodeSection | HfCausalLMSection, config: Any, depth: int) -> PreTrainedModel:
    shallow = type(config).from_dict(config.to_dict())
    shallow.num_hidden_layers = depth
    if getattr(shallow, "layer_types", None):
        shallow.layer_types = shallow.layer_types[:depth]
    if isinstance(section, ReplitCodeSection):
        shallow.attn_config = {**shallow.attn_config, "attn_impl": "torch"}
        model: Any = ReplitCodeForCausalLM(shallow)
    else:
        model = AutoModelForCausalLM.from_config(shallow, attn_implementation="sdpa")
    if section.peft_config is not None:
        peft = import_peft("model.peft_config")
        settings = peft.LoraConfig(**section.peft_config.model_dump(exclude={"peft_type"}))
        peft.inject_adapter_in_model(settings, model, NAME)
    return model


def _as_if_on_cpu(model: torch.nn.Module) -> None:
    """Put fake tensors of the CPU in the place of a model's meta tensors; shared ones stay shared."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
                made.setdefault(id(weight), torch.nn.Parameter(fake, requires_grad=weight.requires_grad))
                module._parameters[name] = made[id(weight)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextlib.contextmanager
def _chunks_of(elements: int) -> Iterator[None]:
    before = model_loss.chunk_elements
    model_loss.chunk_elements = lambda device_type: elements
    try:
        yield
    finally:
        model_loss.chunk_elements = before


class _Fused:
    """Attention as fused kernels compute it, with no bias in memory; what there is of one, `estimate` adds."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, dropout: float
    ) -> torch.Tensor:
        groups = query.shape[2] // key.shape[2]
        key, value = (tensor.repeat_interleave(groups, dim=2) if groups > 1 else tensor for tensor in (key, value))
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        out = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, True, scale=scale)[0]
        return out.transpose(1, 2)


@contextlib.contextmanager
def _fused_attention() -> Iterator[None]:
    before = modeling.plan_attention
    modeling.plan_attention = lambda *_: _Fused()  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        modeling.plan_attention = before
