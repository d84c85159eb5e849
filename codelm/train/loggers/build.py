"""The loggers of a run, from the configuration."""

import importlib.util
from pathlib import Path

from composer.loggers import LoggerDestination

from codelm.config.train import TrainConfig
from codelm.config.training.loggers import LoggersSection
from codelm.errors import EnvironmentFailure
from codelm.train.callbacks.metrics_file import MetricsFile
from codelm.train.loggers.destination import Opener, Rescue, RunInfo
from codelm.train.loggers.mlflow_run import mlflow_run
from codelm.train.loggers.steadfast import SteadfastLogger
from codelm.train.loggers.tensorboard import tensorboard
from codelm.train.loggers.wandb_run import wandb_rescue, wandb_run


def check_packages(section: LoggersSection) -> None:
    """Refuse a logger whose package is not installed.

    Raises:
        EnvironmentFailure: naming it.
    """
    for package in LoggersSection.model_fields:
        if getattr(section, package) is not None and importlib.util.find_spec(package) is None:
            raise EnvironmentFailure(
                f"loggers.{package} needs a package that is absent: pip install {package}, or leave the section out"
            )


def build_loggers(config: TrainConfig, save_folder: Path) -> list[LoggerDestination]:
    """The metrics file, which is always written, and those that were asked for."""
    section = config.loggers
    openers: dict[str, Opener] = {}
    rescues: dict[str, Rescue] = {}
    if section.tensorboard is not None:
        openers["tensorboard"] = tensorboard(Path(section.tensorboard.log_dir or save_folder / "tensorboard"))
    if section.wandb is not None:
        openers["wandb"] = wandb_run(section.wandb, save_folder / "wandb")
        rescues["wandb"] = wandb_rescue(section.wandb, save_folder / "wandb")
    if section.mlflow is not None:
        openers["mlflow"] = mlflow_run(section.mlflow, save_folder)
    run = RunInfo(config.run_name, config.model_dump(mode="json"))
    return [
        MetricsFile(save_folder / "metrics.jsonl"),
        *(SteadfastLogger(label, opener, run, rescues.get(label)) for label, opener in openers.items()),
    ]
