"""The callbacks of a run, from the configuration."""

import logging
from collections.abc import Callable
from pathlib import Path

from composer import Callback

from codelm.config.train import TrainConfig
from codelm.data.reading.fetch import is_remote
from codelm.data.reading.shard_reader import ShardReader
from codelm.errors import ConfigError
from codelm.eval.benchmarks.registry import load_benchmark
from codelm.eval.problem import Benchmark
from codelm.eval.prompts import why_not
from codelm.train import composer_args
from codelm.train.build import Pieces, in_batches
from codelm.train.callbacks.code_eval import CodeEval, Evaluated
from codelm.train.callbacks.early_stopper import check_monitor
from codelm.train.callbacks.guard import GradientGuard
from codelm.train.callbacks.judging import CODE_EVAL_FOLDER
from codelm.train.callbacks.loss_spike import LossSpikes
from codelm.train.checkpoints.build import build_policy
from codelm.train.checkpoints.save import CheckpointSaver
from codelm.train.flops import ModelCosts
from codelm.train.loggers.build import check_packages
from codelm.train.monitors import build_monitors, build_outcomes
from codelm.train.parallel.building import build_shell
from codelm.train.roll_backs import RollBack

log = logging.getLogger(__name__)


def check_beside(config: TrainConfig, pieces: Pieces) -> dict[str, Benchmark]:
    """Refuse, before a model is built, what runs beside training and cannot; return the benchmarks of `code_eval`.

    Raises:
        ConfigError: a metric is watched that there is not, no checkpoint would be kept for good, or there is nothing to
            fill in.
        EnvironmentFailure: a logger's package is absent.
        EvaluationError: a benchmark is absent or damaged.
    """
    check_packages(config.loggers)
    build_policy(config, pieces)
    if config.callbacks.early_stopper is not None:
        check_monitor(config.callbacks.early_stopper, pieces.eval_loaders)
    _check_data(config, pieces)
    return benchmarks_of(config, pieces)


def _check_data(config: TrainConfig, pieces: Pieces) -> None:
    section = config.train_data
    readers = pieces.data.dataset.readers
    if section.fim is not None and all(isinstance(r, ShardReader) and r.has_loss_mask for r in readers):
        raise ConfigError("train_data.fim leaves instruction data as it is, and there is no other; delete it")
    replayed = [section.replay.path] if section.replay is not None else []
    paths = [section.path, *replayed, *(held_out.path for held_out in config.eval_data.values())]
    if (section.cache_folder or section.cache_limit) and not any(map(is_remote, paths)):
        log.warning("train_data.cache_folder and cache_limit: every corpus is on this machine, so nothing is cached")
    if config.eval_interval is not None and not pieces.eval_loaders:
        log.warning("eval_interval %s: there is no eval_data, so nothing is evaluated", config.eval_interval)


def benchmarks_of(config: TrainConfig, pieces: Pieces) -> dict[str, Benchmark]:
    """Those of `code_eval` that this tokenizer can show, by name; the others are warned of."""
    found = {}
    section = config.callbacks.code_eval
    for name, task in {} if section is None else section.tasks.chosen().items():
        benchmark = load_benchmark(name, task)
        if reason := why_not(pieces.tokenizer, benchmark.problems):
            log.warning("callbacks.code_eval.tasks: %s is left out: %s", name, reason)
        else:
            found[name] = benchmark
    return found


def build_callbacks(
    config: TrainConfig,
    pieces: Pieces,
    benchmarks: dict[str, Benchmark],
    costs: ModelCosts,
    saver: CheckpointSaver,
    roll_backs: list[RollBack],
    moves: Callable[[], None],
) -> list[Callback]:
    """What runs beside training, in the order in which Composer calls it, but for random numbers and checkpoints.

    `benchmarks`: from `check_beside`. `roll_backs`: those that the run has behind it. `moves`: called now and then by
    what takes long.
    """
    guard = GradientGuard(config.callbacks.nan_guard, config.algorithms.gradient_clipping, saver)
    watched = [] if config.callbacks.loss_spike is None else [config.callbacks.loss_spike]
    folder, dataset = Path(config.save_folder), pieces.data.dataset
    return [
        guard,
        *build_monitors(config, pieces, costs),
        *(LossSpikes(section, folder, dataset, roll_backs, saver) for section in watched),
        *_code_eval(config, pieces, benchmarks, moves),
        *build_outcomes(config, pieces),
    ]


def _code_eval(
    config: TrainConfig, pieces: Pieces, benchmarks: dict[str, Benchmark], moves: Callable[[], None]
) -> list[Callback]:
    section = config.callbacks.code_eval
    if section is None or not benchmarks:
        return []
    run = Evaluated(
        benchmarks=benchmarks,
        tokenizer=pieces.tokenizer,
        seed=config.seed,
        folder=Path(config.save_folder) / CODE_EVAL_FOLDER,
        shell=lambda: build_shell(config, pieces.tokenizer),
        moves=moves,
    )
    return [CodeEval(section, composer_args.every(in_batches(section.interval, config, len(pieces.data.dataset))), run)]
