"""The callbacks of a run, from the configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from composer import Callback, State

from codelm.config.train import TrainConfig
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.train import composer_args
from codelm.train.build import Pieces, in_batches
from codelm.train.callbacks.code_eval import CodeEval, Evaluated
from codelm.train.callbacks.guard import GradientGuard
from codelm.train.flops import ModelCosts
from codelm.train.monitors import build_monitors, build_outcomes
from codelm.train.parallel.building import build_shell


def build_callbacks(
    config: TrainConfig,
    pieces: Pieces,
    costs: ModelCosts,
    save: Callable[[State], Any],
    moves: Callable[[], None],
) -> list[Callback]:
    """What runs beside training, in the order in which Composer calls it, but for random numbers and checkpoints.

    `save`: writes a checkpoint of this moment, and returns when it is there; every rank calls it. `moves`: called now
    and then by what takes long.
    """
    guard = GradientGuard(config.callbacks.nan_guard, config.algorithms.gradient_clipping, save)
    return [
        guard,
        *build_monitors(config, pieces, costs),
        *_code_eval(config, pieces, moves),
        *build_outcomes(config, pieces),
    ]


def _code_eval(config: TrainConfig, pieces: Pieces, moves: Callable[[], None]) -> list[Callback]:
    section = config.callbacks.code_eval
    if section is None:
        return []

    run = Evaluated(
        benchmarks={name: load_benchmark(name, task) for name, task in section.tasks.chosen().items()},
        tokenizer=pieces.tokenizer,
        seed=config.seed,
        folder=Path(config.save_folder) / "code_eval",
        shell=lambda: build_shell(config, pieces.tokenizer),
        moves=moves,
    )
    return [CodeEval(section, composer_args.every(in_batches(section.interval, config, len(pieces.data.dataset))), run)]
