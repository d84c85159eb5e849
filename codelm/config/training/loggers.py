"""Where metrics go."""

from pydantic import Field

from codelm.config.fields import Section


class TensorboardSection(Section):
    """Composer's TensorboardLogger."""

    log_dir: str | None = None
    """null means save_folder/tensorboard."""


class WandbSection(Section):
    """Composer's WandBLogger."""

    project: str
    entity: str | None = None
    tags: list[str] = Field(default_factory=list)


class LoggersSection(Section):
    """Where metrics go besides save_folder/metrics.jsonl, which is always written."""

    tensorboard: TensorboardSection | None = None
    wandb: WandbSection | None = None
