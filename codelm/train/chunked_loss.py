"""The loss of transformers' models in chunks, as our own model computes it: the logits are never whole in memory."""

import functools
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from codelm.model import ReplitCodeForCausalLM
from codelm.model.loss import linear_cross_entropy, shifted

_TOLERANCE = 1e-4


def has_plain_head(model: PreTrainedModel) -> bool:
    """Whether the logits are the last hidden states times one matrix and nothing else: tried on the model.

    Biases, capped or scaled logits, adapters on the output layer and losses of routers are left to the model.
    """
    head, base = model.get_output_embeddings(), model.base_model
    if isinstance(model, ReplitCodeForCausalLM) or type(head) is not nn.Linear or head.bias is not None:
        return False
    if base is model or getattr(model.config, "output_router_logits", False):
        return False
    training = model.training
    model.eval()
    ids = torch.arange(6, device=model.device)[None]
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits
            product = base(input_ids=ids, use_cache=False)[0] @ head.weight.T
    except (TypeError, ValueError, RuntimeError, IndexError):
        return False
    finally:
        model.train(training)
    return product.shape == logits.shape and torch.allclose(
        product, logits, atol=_TOLERANCE * float(logits.abs().max())
    )


def compute_loss_in_chunks(model: PreTrainedModel) -> None:
    """Let a model with a plain head compute its loss in chunks when it is given labels; then it returns no logits.

    The model is still called as before, so that FSDP gathers the output layer's weights for it.
    """
    plain = type(model).forward

    @functools.wraps(plain)
    def forward(self: PreTrainedModel, *args: Any, labels: Tensor | None = None, **kwargs: Any) -> Any:
        if labels is None:
            return plain(self, *args, **kwargs)
        hidden = self.base_model(*args, **kwargs)[0]
        head: Any = self.get_output_embeddings()
        loss = linear_cross_entropy(hidden.flatten(0, 1), head.weight, shifted(labels).flatten())
        return CausalLMOutputWithPast(loss=loss)  # pyright: ignore[reportArgumentType]

    model.forward = MethodType(forward, model)
