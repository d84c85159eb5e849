"""The replit-code-v1-3b architecture: a decoder of pre-norm blocks with ALiBi attention and a tied output layer.

Parameter names are those of the published state dict. Read from the top: norm, attention, feed-forward, block, the
decoder, and the language model.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from packaging import version
from torch import Tensor, nn
from transformers import DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from codelm.model.attention import Bias, alibi_slopes, attend, attention_bias
from codelm.model.configuration import ReplitCodeConfig, check_config
from codelm.model.loss import linear_cross_entropy, shifted


class LowPrecisionLayerNorm(nn.Module):
    """LayerNorm without bias; under autocast it computes in the autocast type, as MPT does."""

    def __init__(self, d_model: int, epsilon: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        if not torch.is_autocast_enabled(device):
            return F.layer_norm(x, self.weight.shape, self.weight, None, self.epsilon)
        dtype = torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return F.layer_norm(x.to(dtype), self.weight.shape, self.weight.to(dtype), None, self.epsilon)


def _residual(linear: nn.Linear) -> nn.Linear:
    linear.is_residual = True  # pyright: ignore[reportArgumentType]
    return linear


class Attention(nn.Module):
    """Multi-head self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ReplitCodeConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.n_heads = config.n_heads
        self.clip = config.attn_config["clip_qkv"]
        self.scale = config.attn_config["softmax_scale"] or 1 / math.sqrt(config.head_dim)
        self.dropout = config.attn_config["attn_pdrop"]
        self.Wqkv = nn.Linear(config.d_model, 3 * config.d_model, bias=False)
        self.out_proj = _residual(nn.Linear(config.d_model, config.d_model, bias=False))

    def forward(self, x: Tensor, bias: Bias, cache: Cache | None) -> Tensor:
        batch, seq, d_model = x.shape
        qkv = self.Wqkv(x)
        if self.clip:
            qkv = qkv.clamp(-self.clip, self.clip)
        query, key, value = qkv.view(batch, seq, 3, self.n_heads, -1).unbind(2)
        if cache is not None:
            cached = cache.update(key.transpose(1, 2), value.transpose(1, 2), self.layer)
            key, value = (tensor.transpose(1, 2) for tensor in cached)
        out = attend(query, key, value, bias, self.scale, self.dropout if self.training else 0.0)
        return self.out_proj(out.reshape(batch, seq, d_model))


class FeedForward(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, config: ReplitCodeConfig) -> None:
        super().__init__()
        self.up_proj = nn.Linear(config.d_model, config.expansion_ratio * config.d_model, bias=False)
        self.down_proj = _residual(nn.Linear(config.expansion_ratio * config.d_model, config.d_model, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x)))


class Block(GradientCheckpointingLayer):
    """Attention and feed-forward, each behind a norm and added to the residual stream `(batch, seq, d_model)`."""

    def __init__(self, config: ReplitCodeConfig, layer: int) -> None:
        super().__init__()
        self.norm_1 = LowPrecisionLayerNorm(config.d_model, config.layer_norm_epsilon)
        self.attn = Attention(config, layer)
        self.norm_2 = LowPrecisionLayerNorm(config.d_model, config.layer_norm_epsilon)
        self.ffn = FeedForward(config)
        self.dropout = config.resid_pdrop

    def forward(self, x: Tensor, bias: Bias, cache: Cache | None = None) -> Tensor:
        x = x + F.dropout(self.attn(self.norm_1(x), bias, cache), self.dropout, self.training)
        return x + F.dropout(self.ffn(self.norm_2(x)), self.dropout, self.training)


class ReplitCodePreTrainedModel(PreTrainedModel):
    """What transformers needs to know of the architecture, and its initialisation."""

    config_class = ReplitCodeConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Block"]  # noqa: RUF012

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        weight = getattr(module, "weight", None)
        if weight is None or getattr(weight, "_is_hf_initialized", False):
            return
        if isinstance(module, LowPrecisionLayerNorm):
            nn.init.ones_(weight)
        elif isinstance(module, nn.Linear | nn.Embedding):
            # Kaiming by fan-in draws the fused Wqkv as it would each of its slices: all have d_model inputs.
            nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")
            if getattr(module, "is_residual", False):
                weight.div_(math.sqrt(2 * self.config.n_layers))


class ReplitCodeModel(ReplitCodePreTrainedModel):
    """The decoder: token ids `(batch, seq)` to hidden states `(batch, seq, d_model)`."""

    def __init__(self, config: ReplitCodeConfig) -> None:
        super().__init__(config)
        self.wte = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList([Block(config, layer) for layer in range(config.n_layers)])
        self.norm_f = LowPrecisionLayerNorm(config.d_model, config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.wte

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.wte = value

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        sequence_id: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> BaseModelOutputWithPast:
        """Hidden states after the last norm; see `ReplitCodeForCausalLM.forward` for the arguments."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("pass either input_ids or inputs_embeds")
        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if self.training and self.gradient_checkpointing:
            use_cache = False
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache()
        if not use_cache:
            past_key_values = None

        past = past_key_values.get_seq_length() if past_key_values is not None else 0
        slopes = alibi_slopes(self.config.n_heads, self.config.attn_config["alibi_bias_max"], x.device)
        groups = _groups(attention_mask, sequence_id, past, x.shape[1])
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        bias = attention_bias(slopes, x.shape[1], past + x.shape[1], groups, dtype)

        x = F.dropout(x, self.config.emb_pdrop, self.training)
        states = (x,)
        for block in self.blocks:
            x = block(x, bias, past_key_values)
            states += (x,) if output_hidden_states else ()
        x = self.norm_f(x)
        output = BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=past_key_values,
            hidden_states=(*states[:-1], x) if output_hidden_states else None,  # pyright: ignore[reportArgumentType]
        )
        return output if return_dict is not False else output.to_tuple()  # pyright: ignore[reportReturnType]


def _groups(attention_mask: Tensor | None, sequence_id: Tensor | None, past: int, seq: int) -> Tensor | None:
    """The group of each key `(batch, past + seq)`, which only queries of the same group see; padding is group -1."""
    if attention_mask is not None and attention_mask.shape[1:] != (past + seq,):
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}; it must be (batch, {past + seq}), "
            "one flag for each position, the cached ones included"
        )
    if sequence_id is None:
        return None if attention_mask is None else attention_mask.long() - 1
    if past:
        raise ValueError("sequence_id cannot be used with a filled cache: the documents of cached keys are unknown")
    return sequence_id if attention_mask is None else sequence_id.masked_fill(attention_mask == 0, -1)


# transformers 5 wants a mapping from each tied weight to its source, transformers 4 a list.
_TIED = {"lm_head.weight": "transformer.wte.weight"}


class ReplitCodeForCausalLM(ReplitCodePreTrainedModel, GenerationMixin):
    """The language model; its output layer shares the embedding's weights."""

    _tied_weights_keys: Any = _TIED if version.parse(transformers.__version__).major >= 5 else list(_TIED)

    def __init__(self, config: ReplitCodeConfig) -> None:
        check_config(config)
        super().__init__(config)
        self.transformer = ReplitCodeModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        self.lm_head = new_embeddings

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        sequence_id: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        skip_logits: bool | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        cache_position: Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """Predict the next token at each position.

        Args:
            input_ids: int64 `(batch, seq)`; or inputs_embeds `(batch, seq, d_model)`.
            attention_mask: `(batch, past + seq)`, 0 where there is padding, on either side.
            labels: int64 `(batch, seq)`, not shifted (labels[t] is predicted at t - 1), -100 where nothing is.
            sequence_id: int64 `(batch, seq)`, the number of the document within its row, -1 for padding; documents do
                not see each other.
            logits_to_keep: compute the logits of the last so many positions only; 0 for all.
            skip_logits: leave the logits out and compute the loss in chunks. None: in training, when there are labels.
            cache_position: not needed, the cache knows its length; transformers 4 passes it.

        Returns:
            loss (fp32 scalar, mean over the labels), logits `(batch, seq, vocab)`, past_key_values.
        """
        if use_cache is None and labels is not None:
            use_cache = False
        decoded = self.transformer(
            input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, sequence_id, output_hidden_states
        )
        hidden = decoded.last_hidden_state
        skip_logits = labels is not None and (self.training if skip_logits is None else skip_logits)
        loss = logits = None
        if labels is not None:
            loss = linear_cross_entropy(hidden.flatten(0, 1), self.lm_head.weight, shifted(labels).flatten())
        if not skip_logits:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = self.lm_head(hidden[:, kept])
        output = CausalLMOutputWithPast(
            loss=loss,  # pyright: ignore[reportArgumentType]
            logits=logits,  # pyright: ignore[reportArgumentType]
            past_key_values=decoded.past_key_values,
            hidden_states=decoded.hidden_states,
        )
        return output if return_dict is not False else output.to_tuple()  # pyright: ignore[reportReturnType]
