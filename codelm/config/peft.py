"""The `peft_config` of a model: low-rank adapters, of which alone a run trains the weights."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from codelm.config.fields import PositiveInt, Section


class PeftSection(Section):
    """Low-rank adapters beside linear layers; the keys are those of peft's LoraConfig."""

    peft_type: Literal["LORA"] = "LORA"
    task_type: Literal["CAUSAL_LM"] = "CAUSAL_LM"
    r: PositiveInt = 16
    """The rank: the width of an adapter's middle."""
    lora_alpha: PositiveInt = 32
    """What an adapter gives is multiplied by lora_alpha / r."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """On what goes into an adapter."""
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = "all-linear"
    """The layers with adapters: all linear ones but the output layer, or the ends of their names, such as Wqkv."""
    use_rslora: bool = False
    """Multiply by lora_alpha / √r instead, which keeps high ranks learning."""


class AdapterKeys(Section):
    """The keys of a model that is trained through adapters."""

    peft_config: PeftSection | None = None
    """null trains all weights."""
    load_in_8bit: bool = False
    """Keep the weights below the adapters in 8 bits (package bitsandbytes)."""
    load_in_4bit: bool = False
    """The same in 4 bits (nf4): QLoRA."""

    @model_validator(mode="after")
    def _few_bits_need_adapters(self) -> "AdapterKeys":
        few = [key for key in ("load_in_8bit", "load_in_4bit") if getattr(self, key)]
        if len(few) > 1:
            raise ValueError("load_in_8bit and load_in_4bit exclude each other; set one of them")
        if few and self.peft_config is None:
            raise ValueError(f"{few[0]}: weights in few bits cannot be trained; give a peft_config to train adapters")
        return self
