"""The replit-code-v1-3b architecture: a decoder of pre-norm blocks with ALiBi attention and a tied output layer.

Parameter names are those of the published state dict. Read from the top: attention, feed-forward, block, the
decoder, and the language model.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from packaging import version
from torch import Tensor, nn
from transformers import BitsAndBytesConfig, DynamicCache, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from codelm.errors import ConfigError
from codelm.model.attention import Attend, Pattern, alibi_slopes, check_installed, plan_attention
from codelm.model.configuration import ReplitCodeConfig, check_config
from codelm.model.loss import linear_cross_entropy, shifted
from codelm.model.norms import Norm
from codelm.model.quantization import settle_4bit_layers

_QUANTIZATION_SWITCHES = ("load_in_8bit", "load_in_4bit")


def _residual(linear: nn.Linear) -> nn.Linear:
    linear.is_residual = True  # pyright: ignore[reportArgumentType]
    return linear


def _norm(config: ReplitCodeConfig, width: int) -> Norm:
    return Norm(config.norm_type, width, config.layer_norm_epsilon, bias=not config.no_bias)


class Attention(nn.Module):
    """Self-attention with one fused projection for queries, keys and values."""

    def __init__(self, config: ReplitCodeConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.clip = config.attn_config["clip_qkv"]
        self.scale = config.attn_config["softmax_scale"] or 1 / math.sqrt(config.head_dim)
        self.dropout = config.attn_config["attn_pdrop"]
        self.widths = [config.d_model, config.kv_n_heads * config.head_dim, config.kv_n_heads * config.head_dim]
        bias = not config.no_bias
        self.Wqkv = nn.Linear(config.d_model, sum(self.widths), bias=bias)
        self.q_ln = self.k_ln = None
        if config.attn_config["qk_ln"]:
            # MPT's are layer norms over all heads at once, whatever norm_type says of the others.
            self.q_ln, self.k_ln = (Norm("low_precision_layernorm", width, 1e-5, bias) for width in self.widths[:2])
        self.out_proj = _residual(nn.Linear(config.d_model, config.d_model, bias=bias))

    def forward(self, x: Tensor, plan: Attend, cache: Cache | None, cached: int) -> Tensor:
        qkv = self.Wqkv(x)
        if self.clip:
            qkv = qkv.clamp(-self.clip, self.clip)
        query, key, value = qkv.split(self.widths, dim=2)
        if self.q_ln is not None and self.k_ln is not None:
            query, key = self.q_ln(query).to(value.dtype), self.k_ln(key).to(value.dtype)
        query, key, value = (tensor.unflatten(2, (-1, self.head_dim)) for tensor in (query, key, value))
        if cache is not None:
            # A cache of fixed size writes where it is told.
            places = {"cache_position": torch.arange(cached, cached + x.shape[1], device=x.device)}
            held = cache.update(key.transpose(1, 2), value.transpose(1, 2), self.layer, places)
            key, value = (tensor.transpose(1, 2) for tensor in held)
        out = plan.attend(query, key, value, self.scale, self.dropout if self.training else 0.0)
        return self.out_proj(out.flatten(2))


class FeedForward(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, config: ReplitCodeConfig) -> None:
        super().__init__()
        width, bias = config.expansion_ratio * config.d_model, not config.no_bias
        self.up_proj = nn.Linear(config.d_model, width, bias=bias)
        self.down_proj = _residual(nn.Linear(width, config.d_model, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.gelu(self.up_proj(x)))


class Block(GradientCheckpointingLayer):
    """Attention and feed-forward, each behind a norm and added to the residual stream `(batch, seq, d_model)`."""

    def __init__(self, config: ReplitCodeConfig, layer: int) -> None:
        super().__init__()
        self.norm_1 = _norm(config, config.d_model)
        self.attn = Attention(config, layer)
        self.norm_2 = _norm(config, config.d_model)
        self.ffn = FeedForward(config)
        self.dropout = config.resid_pdrop

    def forward(self, x: Tensor, plan: Attend, cache: Cache | None = None, cached: int = 0) -> Tensor:
        x = x + F.dropout(self.attn(self.norm_1(x), plan, cache, cached), self.dropout, self.training)
        return x + F.dropout(self.ffn(self.norm_2(x)), self.dropout, self.training)


class ReplitCodePreTrainedModel(PreTrainedModel):
    """What transformers needs to know of the architecture, and its initialisation."""

    config_class = ReplitCodeConfig
    base_model_prefix = "transformer"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["Block"]  # noqa: RUF012

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """As in transformers, with the switches `load_in_8bit` and `load_in_4bit` also where version 5 dropped them.

        Raises:
            ConfigError: a switch is set beside a `quantization_config`, or both are; or a layer's shape has no 4 bits.
        """
        switches = {name: kwargs.pop(name) for name in _QUANTIZATION_SWITCHES if name in kwargs}
        if any(switches.values()):
            if all(switches.get(name) for name in _QUANTIZATION_SWITCHES) or kwargs.get("quantization_config"):
                raise ConfigError(
                    "load_in_8bit, load_in_4bit and quantization_config exclude each other; set one of them"
                )
            kwargs["quantization_config"] = BitsAndBytesConfig(**switches)
        loaded = super().from_pretrained(*args, **kwargs)
        settle_4bit_layers(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        weight = getattr(module, "weight", None)
        if weight is None or getattr(weight, "_is_hf_initialized", False):
            return
        bias = getattr(module, "bias", None)
        if bias is not None:
            nn.init.zeros_(bias)
        if isinstance(module, Norm):
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
        self.wpe = nn.Embedding(config.max_seq_len, config.d_model) if config.has_positions else None
        self.blocks = nn.ModuleList([Block(config, layer) for layer in range(config.n_layers)])
        self.norm_f = _norm(config, config.d_model)
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

        cached = int(past_key_values.get_seq_length()) if past_key_values is not None else 0
        if self.wpe is not None:
            x = x + self.wpe(self._positions(attention_mask, cached, x.shape[1], x.device))
        if self.config.embedding_fraction != 1:
            x = x * self.config.embedding_fraction + x.detach() * (1 - self.config.embedding_fraction)
        x = F.dropout(x, self.config.emb_pdrop, self.training)
        plan = self._plan(x, attention_mask, sequence_id, past_key_values, cached)
        states = (x,)
        for block in self.blocks:
            x = block(x, plan, past_key_values, cached)
            states += (x,) if output_hidden_states else ()
        x = self.norm_f(x)
        output = BaseModelOutputWithPast(
            last_hidden_state=x,
            past_key_values=past_key_values,
            hidden_states=(*states[:-1], x) if output_hidden_states else None,  # pyright: ignore[reportArgumentType]
        )
        return output if return_dict is not False else output.to_tuple()  # pyright: ignore[reportReturnType]

    def _plan(
        self, x: Tensor, attention_mask: Tensor | None, sequence_id: Tensor | None, cache: Cache | None, cached: int
    ) -> Attend:
        """Who looks at whom in this pass."""
        settings = self.config.attn_config
        if settings["attn_uses_sequence_id"] and self.training and sequence_id is None:
            raise ValueError("the model has attn_config.attn_uses_sequence_id: in training pass sequence_id")
        queries, keys = x.shape[1], cached + x.shape[1]
        if cache is not None and cache.is_compileable:
            keys = cache.get_max_cache_shape()
        mask = attention_mask if attention_mask is not None and attention_mask.ndim == 4 else None
        groups = _groups(attention_mask if mask is None else None, sequence_id, cached, queries)
        if groups is not None and groups.shape[1] < keys:
            groups = F.pad(groups, (0, keys - groups.shape[1]))
        slopes = alibi_slopes(self.config.n_heads, settings["alibi_bias_max"], x.device) if settings["alibi"] else None
        pattern = Pattern(slopes, cached, queries, keys, groups, self.config.window, mask)
        autocast = torch.is_autocast_enabled(x.device.type)
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else x.dtype
        return plan_attention(settings["attn_impl"], settings["alibi_form"], pattern, x.device, dtype)

    def _positions(self, attention_mask: Tensor | None, cached: int, seq: int, device: torch.device) -> Tensor:
        """The place of each token in its row, left padding not counted: int64 `(batch or 1, seq)`."""
        if cached + seq > self.config.max_seq_len:
            raise ConfigError(
                f"a sequence of {cached + seq} tokens is longer than the model's table of positions, which ends at "
                f"max_seq_len {self.config.max_seq_len}; shorten it"
            )
        positions = torch.arange(cached, cached + seq, device=device)[None]
        if attention_mask is None or attention_mask.ndim == 4:
            return positions
        padding = (attention_mask == 0).long().cumsum(1)[:, cached : cached + seq]
        return (positions - padding).clamp(min=0)


def _groups(attention_mask: Tensor | None, sequence_id: Tensor | None, cached: int, seq: int) -> Tensor | None:
    """The group of each key `(batch, cached + seq)`, which only queries of the same group see; padding is group -1."""
    if attention_mask is not None and attention_mask.shape[1:] != (cached + seq,):
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}; it must be (batch, {cached + seq}), "
            "one flag for each position, the cached ones included, or have four dimensions"
        )
    if sequence_id is None:
        return None if attention_mask is None else attention_mask.long() - 1
    if cached:
        raise ValueError("sequence_id cannot be used with a filled cache: the documents of cached keys are unknown")
    return sequence_id if attention_mask is None else sequence_id.masked_fill(attention_mask == 0, -1)


# transformers 5 wants a mapping from each tied weight to its source, transformers 4 a list.
_TIED = {"lm_head.weight": "transformer.wte.weight"}


class ReplitCodeForCausalLM(ReplitCodePreTrainedModel, GenerationMixin):
    """The language model; its output layer shares the embedding's weights."""

    _tied_weights_keys: Any = _TIED if version.parse(transformers.__version__).major >= 5 else list(_TIED)

    def __init__(self, config: ReplitCodeConfig) -> None:
        check_config(config)
        if config.attn_config["attn_impl"] == "flash":
            check_installed()
        super().__init__(config)
        self.transformer = ReplitCodeModel(config)
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        scale = config.logit_scale
        self.logit_scale = 1 / math.sqrt(config.d_model) if isinstance(scale, str) else scale
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
        output_attentions: bool | None = None,
    ) -> CausalLMOutputWithPast:
        """Predict the next token at each position.

        Args:
            input_ids: int64 `(batch, seq)`; or inputs_embeds `(batch, seq, d_model)`.
            attention_mask: `(batch, past + seq)`, 0 where there is padding, on either side; or
                `(batch, 1, seq, keys)`, bool (true: visible) or added to the scores.
            labels: int64 `(batch, seq)`, not shifted (labels[t] is predicted at t - 1), -100 where nothing is.
            sequence_id: int64 `(batch, seq)`, the number of the document within its row, -1 for padding; documents do
                not see each other.
            logits_to_keep: compute the logits of the last so many positions only; 0 for all.
            skip_logits: leave the logits out and compute the loss in chunks. None: in training, when there are labels.
            cache_position: not needed, the cache knows its length; transformers 4 passes it.
            output_attentions: peft passes it; the weights of attention are never whole, so true is refused.

        Returns:
            loss (fp32 scalar, mean over the labels), logits `(batch, seq, vocab)`, past_key_values.
        """
        if output_attentions:
            raise ValueError("the weights of attention are never whole in memory; output_attentions cannot be true")
        if use_cache is None and labels is not None:
            use_cache = False
        decoded = self.transformer(
            input_ids, attention_mask, past_key_values, inputs_embeds, use_cache, sequence_id, output_hidden_states
        )
        # Scaled here, the logits never exist unscaled; a product of either is the same.
        hidden = decoded.last_hidden_state if self.logit_scale is None else decoded.last_hidden_state * self.logit_scale
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
