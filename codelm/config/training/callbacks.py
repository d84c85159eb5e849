"""What runs beside training."""

from typing import Annotated

from pydantic import Field

from codelm.config.fields import PositiveDuration, PositiveInt, Section


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


class CallbacksSection(Section):
    """What runs beside training; progress, the metrics file and the NaN guard are always on."""

    code_eval: CodeEvalSection | None = None
