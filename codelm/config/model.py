"""The `model:` section: our architecture trained from scratch, or any causal language model of transformers."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator, model_validator

from codelm.config.fields import PositiveInt, Section
from codelm.config.peft import AdapterKeys
from codelm.config.sizes import SIZES

Dropout = Annotated[float, Field(ge=0, lt=1)]
Size = Literal["125m", "350m", "1b", "3b"]

assert set(Size.__args__) == set(SIZES)


def _one_sentence(value: object, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValueError:
        raise ValueError("should be a number above 0, the text inv_sqrt_d_model, or null") from None


LogitScale = Annotated[Annotated[float, Field(gt=0)] | Literal["inv_sqrt_d_model"] | None, WrapValidator(_one_sentence)]


class AttnConfig(Section):
    """Attention, with MPT's key names."""

    attn_type: Literal["multihead_attention", "multiquery_attention", "grouped_query_attention"] = "multihead_attention"
    """How keys and values are shared: each head its own, one for all, or one for each group of heads."""
    kv_n_heads: PositiveInt | None = None
    """Heads of keys and values, for grouped_query_attention; divides n_heads."""
    attn_impl: Literal["torch", "triton", "flash"] = "torch"
    """torch: CPU and GPU; triton: compiled FlexAttention on GPU (on CPU it is torch); flash: the flash-attn package."""
    attn_pdrop: Dropout = 0.0
    attn_uses_sequence_id: bool = False
    """Recorded for other programs; training here masks packed documents from each other whatever this says."""
    alibi: bool = True
    """Positions from ALiBi; without it from learned embeddings."""
    alibi_bias_max: PositiveInt = 8
    alibi_form: Literal["relative", "legacy"] = "relative"
    """legacy: Replit's own arithmetic, which rounds more in bfloat16; to continue a checkpoint that was trained so."""
    clip_qkv: Annotated[float, Field(gt=0)] | None = None
    """Queries, keys and values are kept between minus and plus this."""
    qk_ln: bool = False
    """Normalise queries and keys."""
    softmax_scale: Annotated[float, Field(gt=0)] | None = None
    """Multiplies the scores; null means 1/√head_dim."""
    sliding_window_size: int = -1
    """A token sees so many tokens before itself; -1 means all."""

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "AttnConfig":
        grouped = self.attn_type == "grouped_query_attention"
        if grouped and self.kv_n_heads is None:
            raise ValueError("attn_type grouped_query_attention needs kv_n_heads, the heads of keys and values")
        if not grouped and self.kv_n_heads is not None:
            raise ValueError(
                f"kv_n_heads {self.kv_n_heads} is for attn_type grouped_query_attention, not {self.attn_type}"
            )
        if self.alibi_form == "legacy" and self.attn_impl != "torch":
            raise ValueError(f"alibi_form legacy needs attn_impl torch, not {self.attn_impl}")
        if self.alibi_form == "legacy" and not self.alibi:
            raise ValueError("alibi_form legacy says how ALiBi is rounded, and alibi is false")
        if self.sliding_window_size < 1 and self.sliding_window_size != -1:
            raise ValueError(
                f"sliding_window_size {self.sliding_window_size} is no number of tokens above 0; write -1 for no window"
            )
        if self.attn_impl == "triton" and self.attn_pdrop:
            raise ValueError(f"attn_pdrop {self.attn_pdrop} needs attn_impl torch or flash; triton has no dropout")
        return self


class ReplitCodeSection(AdapterKeys):
    """A model of the replit-code-v1-3b architecture with freshly initialised weights."""

    name: Literal["replit_code"]
    size: Size | None = None
    """Fills d_model, n_heads and n_layers where they are not given, and is printed as these; 3b: replit-code-v1-3b."""
    d_model: PositiveInt = SIZES["3b"]["d_model"]
    n_heads: PositiveInt = SIZES["3b"]["n_heads"]
    n_layers: PositiveInt = SIZES["3b"]["n_layers"]
    expansion_ratio: PositiveInt = 4
    vocab_size: PositiveInt | None = None
    """null takes the tokenizer's; a larger one leaves unused rows (a multiple of 64 is fast on GPUs)."""
    emb_pdrop: Dropout = 0.0
    resid_pdrop: Dropout = 0.0
    embedding_fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of the embedding's gradient that is kept."""
    learned_pos_emb: bool = True
    """Learned positions; they have an effect only where attn_config.alibi is false."""
    logit_scale: LogitScale = None
    """Multiplies the logits: a number, or inv_sqrt_d_model; null means 1."""
    no_bias: bool = True
    """false gives every linear layer and norm a bias."""
    norm_type: Literal["low_precision_layernorm", "layernorm", "low_precision_rmsnorm", "rmsnorm"] = (
        "low_precision_layernorm"
    )
    """low_precision: computed in bfloat16 under amp_bf16, instead of float32."""
    layer_norm_epsilon: Annotated[float, Field(gt=0)] = 1e-5
    attn_config: AttnConfig = AttnConfig()

    @model_validator(mode="before")
    @classmethod
    def _fill_size(cls, given: Any) -> Any:
        shape = SIZES.get(given["size"]) if isinstance(given, dict) and isinstance(given.get("size"), str) else None
        if shape is None:
            return given
        if shape.keys() <= given.keys():
            raise ValueError(f"size has no effect where {', '.join(shape)} are all given; delete it or them")
        # With the size kept, a printed configuration would give it along with all that it fills.
        return {**shape, **given, "size": None}

    @model_validator(mode="after")
    def _heads_divide(self) -> "ReplitCodeSection":
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}")
        kv_n_heads = self.attn_config.kv_n_heads
        if kv_n_heads is not None and self.n_heads % kv_n_heads:
            raise ValueError(f"n_heads {self.n_heads} is not divisible by attn_config.kv_n_heads {kv_n_heads}")
        if not self.attn_config.alibi and not self.learned_pos_emb:
            raise ValueError("without attn_config.alibi and learned_pos_emb the model knows no positions; set one true")
        return self


class HfCausalLMSection(AdapterKeys):
    """A causal language model of transformers, from a folder or the hub; never with remote code."""

    name: Literal["hf_causal_lm"]
    pretrained_model_name_or_path: str
    pretrained: bool = True
    """false keeps the architecture and initialises the weights afresh."""
    attn_impl: Literal["sdpa", "eager", "flash"] = "sdpa"
    """sdpa: CPU and GPU; eager: for the few models that have nothing else; flash: the flash-attn package, on GPU."""

    @model_validator(mode="after")
    def _adapters_need_weights(self) -> "HfCausalLMSection":
        if self.peft_config is not None and not self.pretrained:
            raise ValueError("peft_config trains adapters on weights that stay as they are; set pretrained: true")
        return self


ModelSection = Annotated[ReplitCodeSection | HfCausalLMSection, Field(discriminator="name")]
