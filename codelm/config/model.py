"""The `model:` section: our architecture trained from scratch, or any causal language model of transformers."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from codelm.config.fields import Section


def _only_alibi(alibi: bool) -> bool:
    if not alibi:
        raise ValueError("this architecture takes its positions from ALiBi alone; leave it true")
    return alibi


class AttnConfig(Section):
    """Attention, with MPT's key names."""

    attn_impl: Literal["torch"] = "torch"
    """`torch`: scaled dot-product attention with an ALiBi bias; CPU and GPU."""
    alibi: Annotated[bool, AfterValidator(_only_alibi)] = True
    alibi_bias_max: Annotated[int, Field(gt=0)] = 8
    attn_pdrop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    softmax_scale: Annotated[float, Field(gt=0)] | None = None
    """Multiplies the scores; null means 1/√head_dim."""


class ReplitCodeSection(Section):
    """A model of the replit-code-v1-3b architecture with freshly initialised weights."""

    name: Literal["replit_code"]
    d_model: Annotated[int, Field(gt=0)] = 2560
    n_heads: Annotated[int, Field(gt=0)] = 32
    n_layers: Annotated[int, Field(gt=0)] = 32
    expansion_ratio: Annotated[int, Field(gt=0)] = 4
    vocab_size: Annotated[int, Field(gt=0)] | None = None
    """null takes the tokenizer's; a larger one leaves unused rows (a multiple of 64 is fast on GPUs)."""
    emb_pdrop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    resid_pdrop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    attn_config: AttnConfig = AttnConfig()

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ReplitCodeSection":
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")
        return self


class HfCausalLMSection(Section):
    """A causal language model of transformers, from a folder or the hub; never with remote code."""

    name: Literal["hf_causal_lm"]
    pretrained_model_name_or_path: str
    pretrained: bool = True
    """false keeps the architecture and initialises the weights afresh."""
    attn_impl: Literal["sdpa", "eager"] = "sdpa"


ModelSection = Annotated[ReplitCodeSection | HfCausalLMSection, Field(discriminator="name")]
