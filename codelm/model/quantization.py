"""Weights in 8 or 4 bits by bitsandbytes, on the GPU and on the CPU: for inference, or under adapters.

Only the linear layers inside the blocks become small. The embedding and the output layer, which share their weights in
our model, stay as they are, and so do norms and biases. docs/loading.md says what that costs in quality.
"""

import logging
from typing import Any, Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.utils.quantization_config import QuantizationMethod

from codelm.errors import ConfigError, EnvironmentFailure

Kind = Literal["int8", "nf4", "fp4"]
"""int8 is LLM.int8() with its outlier columns apart; nf4 and fp4 have blocks of 64 weights with one fp32 scale."""

_COLUMNS, _ROWS = 64, 32
"""In 4 bits a layer's inputs come in blocks of 64, and its outputs in blocks of 32. With other numbers bitsandbytes
0.50 reads the wrong scales on some processors, and breaks off on others."""
_OUTLIER = 6.0
"""From this input value on, LLM.int8() computes a column in 16 bits: the figure of its paper."""


def quantization_kind(load_in_8bit: bool, load_in_4bit: bool) -> Kind | None:
    """What the two switches ask for; 4 bits are nf4, which loses less than fp4.

    Raises:
        ConfigError: both are set.
    """
    if load_in_8bit and load_in_4bit:
        raise ConfigError("load_in_8bit and load_in_4bit exclude each other; set one of them")
    return "int8" if load_in_8bit else "nf4" if load_in_4bit else None


def quantize(model: PreTrainedModel, kind: Kind, device: torch.device | str = "cpu") -> None:
    """Replace a model's linear layers, the output layer excepted, and move it to the device, all in place.

    In 4 bits layers whose inputs are no multiple of 64, or outputs of 32, stay as they are.

    Args:
        model: on the CPU, in the type that it shall compute in.

    Raises:
        EnvironmentFailure: bitsandbytes is absent.
        ConfigError: the model is quantised already, or has no linear layer to quantise.
    """
    bnb = _bitsandbytes()
    if is_quantized(model):
        raise ConfigError("the model is quantised already; load it without load_in_8bit and load_in_4bit")
    kept = _kept(model)
    layers = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.Linear | Conv1D) and id(layer) not in kept and (kind == "int8" or _in_blocks(layer))
    ]
    if not layers:
        raise ConfigError(
            f"{type(model).__name__} has no linear layers that could be loaded in 8 or 4 bits "
            f"(4 bits need multiples of {_COLUMNS} inputs and {_ROWS} outputs)"
        )
    for parent, name, layer in layers:
        # One at a time, so that no second copy of the model is ever in memory.
        setattr(parent, name, _quantized(bnb, layer, kind).to(device))
    settle_4bit_layers(model)
    model.to(device)  # pyright: ignore[reportArgumentType]
    # transformers then refuses .half() and .to(dtype), which would garble the weights; peft looks at the others.
    marks: Any = model
    marks.is_quantized, marks.quantization_method = True, QuantizationMethod.BITS_AND_BYTES
    marks.is_loaded_in_8bit, marks.is_loaded_in_4bit = kind == "int8", kind != "int8"


def is_quantized(model: nn.Module) -> bool:
    """Whether any layer holds integers instead of weights."""
    return any(parameter.dtype in (torch.int8, torch.uint8) for parameter in model.parameters())


def weight_bytes(model: nn.Module) -> int:
    """Bytes of the weights, scales of quantised ones included, shared ones counted once."""
    storages: dict[int, Tensor] = {}
    for tensor in model.state_dict().values():
        if isinstance(tensor, Tensor):
            storages[tensor.data_ptr()] = tensor
    return sum(tensor.nbytes for tensor in storages.values())


def settle_4bit_layers(model: nn.Module) -> None:
    """See that layers in 4 bits are computed rightly, whoever made them.

    On a processor with bf16, bitsandbytes 0.50 lays their weights out anew at the first pass without gradients; a later
    pass with gradients then gives wrong ones (of a 600th of their size), and a remark. They stay as they are here.

    Raises:
        ConfigError: naming the first layer that is computed wrongly in any case.
    """
    for name, layer in model.named_modules():
        if type(layer).__name__ != "Linear4bit":
            continue
        setattr(layer, "support_avx512bf16_for_cpu", False)  # noqa: B010
        if not _in_blocks(layer):
            raise ConfigError(
                f"{name} has {layer.in_features} inputs and {layer.out_features} outputs, and 4 bits need multiples of "
                f"{_COLUMNS} and {_ROWS}; load the model in 8 bits"
            )


def _in_blocks(layer: nn.Module) -> bool:
    columns, rows = _shape(layer)
    return columns % _COLUMNS == 0 and rows % _ROWS == 0


def _shape(layer: nn.Module) -> tuple[int, int]:
    """Inputs and outputs."""
    if isinstance(layer, Conv1D):
        return layer.weight.shape[0], layer.weight.shape[1]
    return layer.in_features, layer.out_features  # pyright: ignore[reportReturnType]


def _quantized(bnb: Any, layer: nn.Module, kind: Kind) -> nn.Module:
    weight: Tensor = layer.weight.data  # pyright: ignore[reportAssignmentType, reportAttributeAccessIssue]
    if isinstance(layer, Conv1D):
        weight = weight.T.contiguous()
    columns, rows = _shape(layer)
    with torch.device("meta"):
        if kind == "int8":
            small = bnb.nn.Linear8bitLt(columns, rows, layer.bias is not None, False, _OUTLIER)
        else:
            small = bnb.nn.Linear4bit(columns, rows, layer.bias is not None, weight.dtype, False, kind)
    if kind == "int8":
        small.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    else:
        small.weight = bnb.nn.Params4bit(
            weight, requires_grad=False, compress_statistics=False, quant_type=kind, module=small
        )
    small.bias = layer.bias
    return small.train(layer.training)


def _kept(model: PreTrainedModel) -> set[int]:
    """The output layer, and whatever shares its weights or the embedding's."""
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    weights = {id(end.weight) for end in ends if end is not None}
    kept = {id(end) for end in ends if end is not None}
    return kept | {id(module) for module in model.modules() if id(getattr(module, "weight", None)) in weights}


def _bitsandbytes() -> Any:
    # It looks for another package's kernel, and works without.
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_not_about_kernels)
    try:
        import bitsandbytes
    except ImportError as error:
        raise EnvironmentFailure(
            "loading in 8 or 4 bits needs the package bitsandbytes: pip install --no-deps bitsandbytes==0.50.2"
        ) from error
    # It says for every layer of every pass that inputs become 16 bits wide, which is what was asked for.
    logging.getLogger("bitsandbytes.autograd._functions").addFilter(_not_about_casts)
    return bitsandbytes


def _not_about_casts(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("MatMul8bitLt: inputs will be cast")


def _not_about_kernels(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Failed to load CPU gemm_4bit_forward")
