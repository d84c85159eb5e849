"""What saves a run's checkpoints, from its configuration."""

import difflib
from pathlib import Path

from codelm.config.train import TrainConfig
from codelm.errors import ConfigError
from codelm.train.board import Board
from codelm.train.build import Pieces, in_batches
from codelm.train.checkpoints.newest_metrics import NewestMetrics
from codelm.train.checkpoints.policy import Policy
from codelm.train.checkpoints.remote import RemoteFolder
from codelm.train.checkpoints.resume import METRICS_FILE
from codelm.train.checkpoints.save import CheckpointSaver, SaveSettings
from codelm.train.checkpoints.upload import Uploader
from codelm.train.lifeline.lifeline import Lifeline
from codelm.train.metrics import BitsPerByte, CrossEntropy
from codelm.train.record import run_record

_MEASURED, _JUDGED = "metrics/", "eval/"
_METRICS = (CrossEntropy.__name__, BitsPerByte.__name__)


def build_policy(config: TrainConfig, pieces: Pieces) -> Policy:
    """Which checkpoints stay.

    Raises:
        ConfigError: `save_best.metric` is one that validation will not measure, or `save_keep_every` is no multiple of
            `save_interval`.
    """
    if config.save_best is not None:
        _check_metric(config.save_best.metric, pieces)
    every = None
    if config.save_keep_every is not None:
        interval, every = (
            in_batches(duration, config, len(pieces.data.dataset))
            for duration in (config.save_interval, config.save_keep_every)
        )
        if every % interval:
            raise ConfigError(
                f"save_keep_every {config.save_keep_every} ({every:,} batches) is no multiple of save_interval"
                f" {config.save_interval} ({interval:,} batches), so that hardly any checkpoint would be kept for good;"
                f" set save_keep_every={-(-every // interval) * interval}ba"
            )
    return Policy(newest=config.save_num_checkpoints_to_keep, every=every, best=config.save_best)


def build_saver(
    config: TrainConfig,
    pieces: Pieces,
    resume_from: Path | None,
    remote: RemoteFolder | None,
    metrics: NewestMetrics,
    board: Board,
    lifeline: Lifeline,
) -> CheckpointSaver:
    """The callback that saves; rank 0 uploads too, where `save_remote` says so."""
    save_folder = Path(config.save_folder)
    settings = SaveSettings(
        save_folder=save_folder,
        interval=f"{in_batches(config.save_interval, config, len(pieces.data.dataset))}ba",
        policy=build_policy(config, pieces),
        in_background=config.save_async,
        tokenizer_folder=pieces.tokenizer.path,
        run=run_record(config, pieces, resume_from),
    )
    uploader = None
    if remote is not None and board.rank == 0:
        uploader = Uploader(remote, settings.policy, save_folder / METRICS_FILE)
    return CheckpointSaver(settings, metrics, uploader, board, lifeline)


def _check_metric(metric: str, pieces: Pieces) -> None:
    """Refuse a validation metric that no validation set has; what callbacks log is known only once they do."""
    if metric.startswith(_JUDGED):
        raise ConfigError(
            f"save_best.metric: {metric} is judged beside training, which has gone on by then from the weights that it"
            " is of; name one of validation such as metrics/python/BitsPerByte, or keep checkpoints by save_keep_every"
            " and choose from them"
        )
    names = [f"{_MEASURED}{label}/{name}" for label in pieces.eval_loaders for name in _METRICS]
    if not metric.startswith(_MEASURED) or metric in names:
        return
    near = difflib.get_close_matches(metric, names, n=1, cutoff=0)
    hint = f"; did you mean {near[0]}?" if near else ": there is no eval_data"
    raise ConfigError(f"save_best.metric: {metric} is not measured by this run{hint}")
