"""A transformers causal language model as a ComposerModel."""

import logging
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from composer.models import ComposerModel
from composer.utils import dist
from torchmetrics import Metric
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from codelm.train.chunked_loss import compute_loss_in_chunks, has_plain_head
from codelm.train.metrics import BitsPerByte, CrossEntropy, token_losses
from codelm.train.packed import Way, find_way, model_inputs, model_labels

log = logging.getLogger(__name__)

Batch = Mapping[str, torch.Tensor]
_T = TypeVar("_T")


class ComposerCausalLM(ComposerModel):
    """Any causal language model of transformers, trained on packed documents that do not see each other."""

    def __init__(self, model: PreTrainedModel, token_bytes: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        self.way, plain_head = _rank_zeros(lambda: (find_way(model), has_plain_head(model)))
        self.masks_documents = self.way is not Way.NONE
        if plain_head:
            compute_loss_in_chunks(model)
        self.token_bytes = token_bytes
        self.eval_metrics = {"CrossEntropy": CrossEntropy(), "BitsPerByte": BitsPerByte(token_bytes)}
        blocks = set(transformer_blocks(model))
        # Composer asks the wrapped model which of its modules to shard on their own.
        model.fsdp_wrap_fn = lambda module: module in blocks  # pyright: ignore

    def forward(self, batch: Batch) -> CausalLMOutputWithPast:
        """The model's output with its loss, the mean over predicted tokens of the (micro)batch."""
        return self.model(labels=model_labels(self.way, batch["labels"]), **self._inputs(batch))

    def loss(self, outputs: CausalLMOutputWithPast, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert outputs.loss is not None
        # transformers' mean over no token at all is NaN; a microbatch may hold nothing but padding.
        predicted = (batch["labels"][:, 1:] != -100).any()
        return torch.where(predicted, outputs.loss, torch.zeros_like(outputs.loss))

    def eval_forward(self, batch: Batch, outputs: Any = None) -> torch.Tensor:
        """The loss of each predicted token: (batch, seq - 1)."""
        logits = self.model(**self._inputs(batch)).logits
        return token_losses(logits.view(*batch["labels"].shape, -1), batch["labels"])

    def get_metrics(self, is_train: bool = False) -> dict[str, Metric]:
        return {} if is_train else self.eval_metrics

    def update_metric(self, batch: Batch, outputs: torch.Tensor, metric: Metric) -> None:
        metric.update(outputs, batch["labels"])

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        return {**model_inputs(self.way, batch, self.model.dtype), "use_cache": False}


def _rank_zeros(find: Callable[[], _T]) -> _T:
    """What rank 0 finds, on all ranks; the others may hold a model without values."""
    if not torch.distributed.is_initialized():
        return find()
    found: list[Any] = [find() if dist.get_global_rank() == 0 else None]
    dist.broadcast_object_list(found)
    return found[0]


def transformer_blocks(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The repeated layers of a model: the longest ModuleList in it."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))
