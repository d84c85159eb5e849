"""The callbacks of a run, from the configuration."""

from collections.abc import Callable
from typing import Any

from composer import Callback, State
from transformers import PreTrainedModel

from codelm.config.train import TrainConfig
from codelm.train import composer_args
from codelm.train.build import Pieces, in_batches
from codelm.train.callbacks.code_eval import CodeEval
from codelm.train.callbacks.guard import GradientGuard
from codelm.train.callbacks.progress import Progress
from codelm.train.models import build_model


def build_callbacks(config: TrainConfig, pieces: Pieces, save: Callable[[State], Any]) -> list[Callback]:
    """What runs beside training, in the order in which Composer calls it, but for random numbers and checkpoints.

    `save`: writes a checkpoint of this moment, and returns when it is there; every rank calls it.
    """
    guard = GradientGuard(config.callbacks.nan_guard, config.algorithms.gradient_clipping, save)
    return [guard, Progress(pieces.batches), *_code_eval(config, pieces)]


def _code_eval(config: TrainConfig, pieces: Pieces) -> list[Callback]:
    section = config.callbacks.code_eval
    if section is None:
        return []

    def fresh_model() -> PreTrainedModel:
        return build_model(config.model_copy(update={"load_path": None}), pieces.tokenizer)

    is_due = composer_args.every(in_batches(section.interval, config, len(pieces.data.dataset)))
    return [CodeEval(section, is_due, pieces.tokenizer, config.seed, fresh_model)]
