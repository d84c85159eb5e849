"""What runs beside training."""

from typing import Annotated

from pydantic import Field

from codelm.config.fields import PositiveDuration, PositiveInt, Section

NonNegativeInt = Annotated[int, Field(ge=0)]


class CodeEvalSection(Section):
    """Generate completions for HumanEval, run them in the sandbox, log pass@1."""

    interval: PositiveDuration
    limit: PositiveInt | None = None
    """The first n problems only; null means all 164."""
    max_new_tokens: PositiveInt = 256
    batch_size: PositiveInt = 16
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0


class NanGuardSection(Section):
    """A step whose loss or gradient is NaN or infinite is skipped on all ranks; it cannot be turned off."""

    max_skipped_steps: NonNegativeInt = 10
    """In a row; one more ends the run, with a checkpoint. 0 ends it at the first."""


class CallbacksSection(Section):
    """What runs beside training; progress and the metrics file are always on."""

    nan_guard: NanGuardSection = NanGuardSection()
    code_eval: CodeEvalSection | None = None
