"""HumanEval during training: generate with the present weights, judge in the sandbox, log pass@1."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from composer import Callback, Event, Logger, State
from composer.utils import dist
from transformers import PreTrainedModel

from codelm.config.eval import HumanEvalSection, SandboxSection
from codelm.config.training.callbacks import CodeEvalSection
from codelm.errors import CodelmError
from codelm.eval.run import evaluate_humaneval
from codelm.tokenizer import Tokenizer
from codelm.train.checkpoints.weights import full_weights, is_sharded, unwrapped

log = logging.getLogger(__name__)


class CodeEval(Callback):
    """Rank 0 generates and judges while the others wait: sharded weights are gathered once, into a copy."""

    def __init__(
        self,
        section: CodeEvalSection,
        is_due: Callable[[State, Event], bool],
        tokenizer: Tokenizer,
        seed: int,
        fresh_model: Callable[[], PreTrainedModel],
    ) -> None:
        self.section = HumanEvalSection(
            limit=section.limit,
            max_new_tokens=section.max_new_tokens,
            batch_size=section.batch_size,
            temperature=section.temperature,
            top_p=section.top_p,
        )
        self.tokenizer = tokenizer
        self.seed = seed
        self.fresh_model = fresh_model
        self.is_due = is_due

    def batch_end(self, state: State, logger: Logger) -> None:
        if not self.is_due(state, Event.BATCH_END):
            return
        batch = int(state.timestamp.batch)
        model = unwrapped(state.model).model
        weights = full_weights(state.model) if is_sharded(model) else {}
        metrics: dict[str, Any] = {}
        if dist.get_global_rank() == 0:
            # Building a model seeds the generators that training draws from.
            with torch.random.fork_rng():
                if weights:
                    model = self.fresh_model()
                    model.load_state_dict(weights, strict=False, assign=True)
                    model.tie_weights()
                    model.to(state.device._device)  # pyright: ignore
                metrics = self._evaluate(model, batch)
        dist.barrier()
        logger.log_metrics(metrics)

    def _evaluate(self, model: PreTrainedModel, batch: int) -> dict[str, float]:
        try:
            result = evaluate_humaneval(
                model, self.tokenizer, self.section, SandboxSection(), self.seed, output_folder=None
            )
        except (CodelmError, OSError) as error:
            # A judge that fails is no reason to lose a training run.
            log.warning("HumanEval at batch %d was left out: %s", batch, error)
            return {}
        metrics = {f"eval/humaneval/{name}": score.value for name, score in result.scores.items()}
        log.info("batch %d: HumanEval: %s", batch, ", ".join(f"{k.split('/')[-1]} {v:.4f}" for k, v in metrics.items()))
        return metrics
