"""What is watched while a run trains, and what stops it early."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codelm.config.fields import ComposerPath, PositiveDuration, PositiveInt, Section

_LOG_EVERY = "10ba"


class SpeedMonitorSection(Section):
    """Tokens a second, the share of the device's peak (MFU), the share of time that waits for data."""

    window_size: PositiveInt = 50
    """Batches that are averaged over."""
    gpu_flops_available: Annotated[float, Field(gt=0)] | None = None
    """The peak of a device in FLOP/s; null takes the table's, which has no processors: there MFU is left out."""


class OptimizerMonitorSection(Section):
    """Lengths of all weights and of a step's update; that of the gradients is always logged."""

    interval: PositiveDuration = _LOG_EVERY
    update_norm: bool = True
    """Keeps a copy of a rank's weights during each step that is logged, when the activations are gone."""


class LanguageMonitorSection(Section):
    """What each stream of the mixture has given: its share of the samples, and the training loss on it."""

    interval: PositiveDuration = _LOG_EVERY


class MemoryMonitorSection(Section):
    """The most memory that a rank has held: of its GPU, or of the process on a CPU."""

    interval: PositiveDuration = _LOG_EVERY


class SampleCompletionsSection(Section):
    """Complete prompts with the present weights, into save_folder/samples.jsonl; training goes on as if it had not."""

    interval: PositiveDuration
    prompts: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list, json_schema_extra={"default": []})
    held_out: Annotated[int, Field(ge=0)] = 0
    """So many more prompts for each language, cut from the first held-out samples of eval_data."""
    prompt_tokens: PositiveInt = 96
    """Of a held-out prompt."""
    max_new_tokens: PositiveInt = 64
    temperature: Annotated[float, Field(ge=0)] = 0.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _some_prompt(self) -> "SampleCompletionsSection":
        if not self.prompts and not self.held_out:
            raise ValueError("there is nothing to complete; give prompts, or held_out above 0")
        return self


class HfCheckpointerSection(Section):
    """Write the weights alone as a transformers folder, beside the checkpoints."""

    save_interval: PositiveDuration
    save_folder: ComposerPath | None = None
    """null means save_folder/huggingface; a folder ba000100 for each."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"


class EarlyStopperSection(Section):
    """Stop when validation gets no better; the last checkpoint is then that of the moment."""

    monitor: str = "BitsPerByte"
    """A metric of metrics.jsonl such as metrics/python/BitsPerByte; BitsPerByte or CrossEntropy alone is the mean over
    all languages. Lower is better."""
    patience: PositiveInt = 3
    """Evaluations in a row without an improvement."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """How much lower counts as an improvement."""
