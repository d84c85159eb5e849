"""What runs beside training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import HumanEvalSection, TasksSection
from codelm.config.fields import PositiveDuration, PositiveInt, Section
from codelm.config.training.monitors import (
    EarlyStopperSection,
    HfCheckpointerSection,
    LanguageMonitorSection,
    MemoryMonitorSection,
    OptimizerMonitorSection,
    SampleCompletionsSection,
    SpeedMonitorSection,
)

NonNegativeInt = Annotated[int, Field(ge=0)]


class CodeEvalSection(Section):
    """Generate completions for benchmarks on all ranks, judge them beside training, log the scores."""

    interval: PositiveDuration
    tasks: TasksSection = TasksSection(humaneval=HumanEvalSection(max_new_tokens=256))
    """As in an evaluation's YAML; HumanEval when left out."""
    sandbox: SandboxSection = SandboxSection()
    """Bounds of each judged program."""


class NanGuardSection(Section):
    """A step whose loss or gradient is NaN or infinite is skipped on all ranks; it cannot be turned off."""

    max_skipped_steps: NonNegativeInt = 10
    """In a row; one more ends the run, with a checkpoint. 0 ends it at the first."""


class LossSpikeSection(Section):
    """Watch for losses far above those before; warn, or go back to a checkpoint and leave out the data around them."""

    window_size: Annotated[int, Field(ge=10)] = 100
    """A loss is held against the median of so many batches before it; the first so many are not judged."""
    outlier_threshold: Annotated[float, Field(gt=0)] = 6.0
    """In standard deviations above the median (estimated from the median distance, at least 0.5 % of the median)."""
    action: Literal["warn", "roll_back"] = "warn"
    patience: PositiveInt = 4
    """Roll back after so many outliers in a row; a single strange batch does no lasting harm."""
    skip_before: NonNegativeInt = 10
    """Batches before the first outlier that are left out too; the checkpoint is from before them if there is one."""
    skip_after: NonNegativeInt = 10
    """Batches after the last outlier that are left out too."""
    max_roll_backs: PositiveInt = 3
    """In the whole run; another spike ends it."""

    @model_validator(mode="after")
    def _waits_within_the_window(self) -> "LossSpikeSection":
        if self.patience >= self.window_size:
            raise ValueError(
                f"patience {self.patience} must be less than window_size {self.window_size}: a window full of outliers"
                " is the new ordinary"
            )
        return self


class CallbacksSection(Section):
    """What runs beside training; progress and the metrics file are always on."""

    nan_guard: NanGuardSection = NanGuardSection()
    loss_spike: LossSpikeSection | None = LossSpikeSection()
    """null does not watch."""
    code_eval: CodeEvalSection | None = None
    speed_monitor: SpeedMonitorSection = SpeedMonitorSection()
    optimizer_monitor: OptimizerMonitorSection | None = OptimizerMonitorSection()
    language_monitor: LanguageMonitorSection | None = LanguageMonitorSection()
    memory_monitor: MemoryMonitorSection | None = MemoryMonitorSection()
    sample_completions: SampleCompletionsSection | None = None
    hf_checkpointer: HfCheckpointerSection | None = None
    early_stopper: EarlyStopperSection | None = None
