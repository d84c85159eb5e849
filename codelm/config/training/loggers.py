"""Where metrics go."""

from typing import Literal

from pydantic import Field

from codelm.config.fields import Section


class TensorboardSection(Section):
    """Event files for TensorBoard."""

    log_dir: str | None = None
    """null means save_folder/tensorboard."""


class WandbSection(Section):
    """Weights & Biases; a run that goes on is the same run there."""

    project: str
    entity: str | None = None
    tags: list[str] = Field(default_factory=list)
    mode: Literal["online", "offline", "disabled"] | None = None
    """null: the environment's WANDB_MODE, else online; offline without an API key. Files are in save_folder/wandb."""


class MlflowSection(Section):
    """MLflow (package mlflow or mlflow-skinny)."""

    experiment_name: str | None = None
    """null means the run's name."""
    tracking_uri: str | None = None
    """A server, sqlite:///… or a folder as file:///…; null means save_folder/mlflow."""


class LoggersSection(Section):
    """Where metrics go besides save_folder/metrics.jsonl; one that fails never stops a run."""

    tensorboard: TensorboardSection | None = None
    wandb: WandbSection | None = None
    mlflow: MlflowSection | None = None
