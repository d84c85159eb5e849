"""What an evaluation is: the YAML of `eval/main.py`. Its sections are in `codelm.config.evaluation`."""

from typing import Annotated, Literal

from pydantic import Field

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import TasksSection
from codelm.config.fields import Section, Seed


class EvalModelSection(Section):
    """The checkpoint to judge: ours, or a transformers folder or hub id; never with remote code."""

    path: str
    device: Literal["auto", "cpu", "gpu"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on GPU, float32 on CPU."""


class EvalConfig(Section):
    """An evaluation of one checkpoint."""

    run_name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    seed: Seed = 17
    model: EvalModelSection
    tasks: TasksSection
    sandbox: SandboxSection = SandboxSection()
    output_folder: str
