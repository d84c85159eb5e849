"""How packed documents are kept from seeing each other, in our model and in those of transformers.

What a model of transformers takes is not looked up but tried on it: a row of several documents must give the logits
that the documents have alone.
"""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from codelm.errors import ConfigError
from codelm.model import ReplitCodeForCausalLM
from codelm.model.quantization import is_quantized

log = logging.getLogger(__name__)

FLASH = "flash_attention_2"
_LENGTHS = (7, 11, 6)
# Of the largest logit; rounding in fp32 is a thousandth of it.
_TOLERANCE = 1e-3
# Of the error of a row without any mask: where that is small itself, the tolerance says nothing.
_SHARE = 0.05


class Way(StrEnum):
    """What a model is given."""

    SEQUENCE_ID = "sequence_id"
    """Ours: the number of the document."""
    POSITIONS = "positions"
    """Positions that restart in every document, from which transformers makes its masks, windows included."""
    FLAT_POSITIONS = "flat positions"
    """The same in one long row: transformers looks for documents only in batches of one when it calls flash-attn."""
    MASK = "mask"
    """The whole mask, and positions that restart."""
    NONE = "none"
    """Nothing: documents see those before them in the row."""


def find_way(model: PreTrainedModel) -> Way:
    """The first way that keeps documents apart; random numbers and the model's mode stay as they are.

    Raises:
        ConfigError: attention is flash-attn's, and the model's documents are not told apart by positions.
    """
    if isinstance(model, ReplitCodeForCausalLM):
        return Way.SEQUENCE_ID
    flash = model.config._attn_implementation == FLASH
    training = model.training
    model.eval()
    if flash:
        # The kernel needs a GPU, where the model is not yet; what it is given does not depend on who computes.
        model.set_attn_implementation("sdpa")
    try:
        with torch.no_grad():
            way = _tried(model)
    finally:
        model.train(training)
        if flash:
            model.set_attn_implementation(FLASH)
    if flash and way is not Way.POSITIONS:
        raise ConfigError(
            f"model.attn_impl flash keeps packed documents apart by positions alone, which {type(model).__name__} does"
            " not; set model.attn_impl=sdpa"
        )
    return Way.FLAT_POSITIONS if flash else way


def _tried(model: PreTrainedModel) -> Way:
    ids = (torch.arange(sum(_LENGTHS), device=model.device) * 7 % model.config.vocab_size)[None]
    numbers = torch.arange(len(_LENGTHS), device=model.device)
    sequence_id = numbers.repeat_interleave(torch.tensor(_LENGTHS, device=model.device))[None]
    try:
        alone = torch.cat([_logits(model, {"input_ids": part}) for part in ids.split(_LENGTHS, dim=1)], dim=1)
        together = _logits(model, {"input_ids": ids})
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        log.info("%s cannot be tried on packed documents: %s", type(model).__name__, error)
        return Way.NONE
    allowed = _SHARE * float((together - alone).abs().max())
    if not is_quantized(model):
        # In 8 bits what is rounded depends on the other rows of a product.
        allowed = min(allowed, _TOLERANCE * float(alone.abs().max()))
    for way in (Way.POSITIONS, Way.MASK):
        if way is Way.MASK and _has_windows(model):
            continue
        try:
            packed = _logits(model, model_inputs(way, {"input_ids": ids, "sequence_id": sequence_id}, model.dtype))
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            log.info("%s takes no %s of packed documents: %s", type(model).__name__, way, error)
            continue
        if float((packed - alone).abs().max()) <= allowed:
            return way
    return Way.NONE


def _logits(model: PreTrainedModel, inputs: dict[str, Any]) -> Tensor:
    call: Callable[..., Any] = model
    return call(**inputs, use_cache=False).logits.float()


def _has_windows(model: PreTrainedModel) -> bool:
    """Whether some layers see less than all before them, which one mask for all would undo."""
    config = model.config
    return any(getattr(config, name, None) for name in ("sliding_window", "attention_window_size", "window_size"))


def model_inputs(way: Way, batch: Any, dtype: torch.dtype) -> dict[str, Any]:
    """What a model is called with, labels apart.

    Args:
        batch: `input_ids` and `sequence_id`, both `(batch, seq)`.
        dtype: the mask's, which must be the model's.
    """
    ids, sequence_id = batch["input_ids"], batch["sequence_id"]
    if way is Way.SEQUENCE_ID:
        return {"input_ids": ids, "sequence_id": sequence_id}
    if way is Way.POSITIONS:
        return {"input_ids": ids, "position_ids": document_positions(sequence_id)}
    if way is Way.FLAT_POSITIONS:
        return {"input_ids": ids.reshape(1, -1), "position_ids": document_positions(sequence_id).reshape(1, -1)}
    if way is Way.MASK:
        mask, positions = document_mask(sequence_id, dtype), document_positions(sequence_id)
        return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
    return {"input_ids": ids}


def model_labels(way: Way, labels: Tensor) -> Tensor:
    """The labels `(batch, seq)` in the shape of the inputs."""
    if way is not Way.FLAT_POSITIONS:
        return labels
    # In one long row, a row's first token would be predicted from the last one of the row before.
    labels = labels.clone()
    labels[:, 0] = -100
    return labels.reshape(1, -1)


def document_mask(sequence_id: Tensor, dtype: torch.dtype) -> Tensor:
    """The additive attention mask (batch, 1, seq, seq) of packed documents: causal, and never across documents."""
    seq = sequence_id.shape[1]
    causal = torch.ones(seq, seq, dtype=torch.bool, device=sequence_id.device).tril()
    visible = causal & (sequence_id[:, :, None] == sequence_id[:, None, :])
    lowest = torch.finfo(dtype).min
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, lowest)[:, None]


def document_positions(sequence_id: Tensor) -> Tensor:
    """Positions (batch, seq) that start at 0 in every document."""
    index = torch.arange(sequence_id.shape[1], device=sequence_id.device).expand_as(sequence_id)
    starts = torch.ones_like(sequence_id, dtype=torch.bool)
    starts[:, 1:] = sequence_id[:, 1:] != sequence_id[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values
