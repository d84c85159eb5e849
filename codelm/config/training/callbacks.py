"""What runs beside training."""

from typing import Annotated

from pydantic import Field

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import HumanEvalSection, TasksSection
from codelm.config.fields import PositiveDuration, Section
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


class CallbacksSection(Section):
    """What runs beside training; progress and the metrics file are always on."""

    nan_guard: NanGuardSection = NanGuardSection()
    code_eval: CodeEvalSection | None = None
    speed_monitor: SpeedMonitorSection = SpeedMonitorSection()
    optimizer_monitor: OptimizerMonitorSection | None = OptimizerMonitorSection()
    language_monitor: LanguageMonitorSection | None = LanguageMonitorSection()
    memory_monitor: MemoryMonitorSection | None = MemoryMonitorSection()
    sample_completions: SampleCompletionsSection | None = None
    hf_checkpointer: HfCheckpointerSection | None = None
    early_stopper: EarlyStopperSection | None = None
