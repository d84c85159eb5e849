"""A transformers causal language model as a ComposerModel."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from composer.models import ComposerModel
from composer.utils import dist
from torchmetrics import Metric
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from codelm.model import ReplitCodeForCausalLM
from codelm.train.metrics import BitsPerByte, CrossEntropy, token_losses

log = logging.getLogger(__name__)

Batch = Mapping[str, torch.Tensor]


class ComposerCausalLM(ComposerModel):
    """Any causal language model of transformers, trained on packed documents that do not see each other."""

    def __init__(self, model: PreTrainedModel, token_bytes: torch.Tensor) -> None:
        super().__init__()
        self.model = model
        # FSDP1 puts a wrapper in the model's place.
        self.takes_sequence_id = isinstance(model, ReplitCodeForCausalLM)
        self.masks_documents = self.takes_sequence_id or _rank_zeros(lambda: masks_documents(model))
        self.token_bytes = token_bytes
        self.eval_metrics = {"CrossEntropy": CrossEntropy(), "BitsPerByte": BitsPerByte(token_bytes)}
        blocks = set(transformer_blocks(model))
        # Composer asks the wrapped model which of its modules to shard on their own.
        model.fsdp_wrap_fn = lambda module: module in blocks  # pyright: ignore

    def forward(self, batch: Batch) -> CausalLMOutputWithPast:
        """The model's output with its loss, the mean over predicted tokens of the (micro)batch."""
        return self.model(labels=batch["labels"], **self._inputs(batch))

    def loss(self, outputs: CausalLMOutputWithPast, batch: Batch, *args: Any, **kwargs: Any) -> torch.Tensor:
        assert outputs.loss is not None
        # transformers' mean over no token at all is NaN; a microbatch may hold nothing but padding.
        predicted = (batch["labels"][:, 1:] != -100).any()
        return torch.where(predicted, outputs.loss, torch.zeros_like(outputs.loss))

    def eval_forward(self, batch: Batch, outputs: Any = None) -> torch.Tensor:
        """The loss of each predicted token: (batch, seq - 1)."""
        return token_losses(self.model(**self._inputs(batch)).logits, batch["labels"])

    def get_metrics(self, is_train: bool = False) -> dict[str, Metric]:
        return {} if is_train else self.eval_metrics

    def update_metric(self, batch: Batch, outputs: torch.Tensor, metric: Metric) -> None:
        metric.update(outputs, batch["labels"])

    def _inputs(self, batch: Batch) -> dict[str, Any]:
        if self.takes_sequence_id:
            return {"input_ids": batch["input_ids"], "sequence_id": batch["sequence_id"], "use_cache": False}
        if not self.masks_documents:
            return {"input_ids": batch["input_ids"], "use_cache": False}
        return {
            "input_ids": batch["input_ids"],
            "attention_mask": document_mask(batch["sequence_id"], self.model.dtype),
            "position_ids": document_positions(batch["sequence_id"]),
            "use_cache": False,
        }


def masks_documents(model: PreTrainedModel) -> bool:
    """Whether the model lets packed documents be masked from each other: tried on it, not looked up.

    Two documents packed in a row must give the logits of the second one alone.
    """
    training = model.training
    model.eval()
    ids = torch.arange(12, device=model.device)[None] % model.config.vocab_size
    sequence_id = (torch.arange(12, device=model.device) >= 5).long()[None]
    try:
        with torch.no_grad():
            packed = model(
                input_ids=ids,
                attention_mask=document_mask(sequence_id, model.dtype),
                position_ids=document_positions(sequence_id),
                use_cache=False,
            ).logits[:, 5:]
            alone = model(input_ids=ids[:, 5:], use_cache=False).logits
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        log.info("%s takes no mask of packed documents: %s", type(model).__name__, error)
        return False
    finally:
        model.train(training)
    return torch.allclose(packed, alone, atol=1e-3 * float(alone.abs().max()))


def _rank_zeros(find: Callable[[], bool]) -> bool:
    """What rank 0 finds, on all ranks; the others may hold a model without values."""
    if not torch.distributed.is_initialized():
        return find()
    found = [find() if dist.get_global_rank() == 0 else False]
    dist.broadcast_object_list(found)
    return found[0]


def transformer_blocks(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The repeated layers of a model: the longest ModuleList in it."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def document_mask(sequence_id: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The additive attention mask (batch, 1, seq, seq) of packed documents: causal, and never across documents."""
    seq = sequence_id.shape[1]
    causal = torch.ones(seq, seq, dtype=torch.bool, device=sequence_id.device).tril()
    visible = causal & (sequence_id[:, :, None] == sequence_id[:, None, :])
    lowest = torch.finfo(dtype).min
    return torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, lowest)[:, None]


def document_positions(sequence_id: torch.Tensor) -> torch.Tensor:
    """Positions (batch, seq) that start at 0 in every document."""
    index = torch.arange(sequence_id.shape[1], device=sequence_id.device).expand_as(sequence_id)
    starts = torch.ones_like(sequence_id, dtype=torch.bool)
    starts[:, 1:] = sequence_id[:, 1:] != sequence_id[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values
