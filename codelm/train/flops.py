"""How many floating-point operations training costs a token, by the convention of PaLM and llm-foundry.

Each weight of a matrix product costs 2 operations in the forward pass and 4 in the backward pass; attention costs
2·2·width·length forward and twice that backward, as if every token saw the whole row. What is recomputed, norms,
activations and lookups count nothing, so that the share of a device's peak (MFU) compares between implementations.
"""

from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class ModelCosts:
    """Sizes of a model that decide what a token costs."""

    parameters: int
    trainable: int
    weights: int
    """Of matrix products, the output layer's included and shared ones once."""
    trainable_weights: int
    attention: int
    """Σ over layers of n_heads · head_dim · keys that a token of a full row may see."""

    def flops_per_token(self) -> float:
        """Of one training step, forward and backward.

        A frozen weight (of a model trained through adapters) has no gradient of its own: 4 operations instead of 6.
        """
        return 4.0 * self.weights + 2.0 * self.trainable_weights + 12.0 * self.attention


def model_costs(model: nn.Module, seq_len: int) -> ModelCosts:
    """Count a transformers causal language model; works on meta and fake tensors.

    Args:
        seq_len: tokens in a row.
    """
    everything = {id(p): p for p in model.parameters()}
    looked_up = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None  # pyright: ignore
    multiplied = {key: p for key, p in everything.items() if p.ndim >= 2 and key not in looked_up}
    weight = getattr(head, "weight", None)
    if weight is not None:
        multiplied[id(weight)] = weight
    return ModelCosts(
        parameters=sum(p.numel() for p in everything.values()),
        trainable=sum(p.numel() for p in everything.values() if p.requires_grad),
        weights=sum(p.numel() for p in multiplied.values()),
        trainable_weights=sum(p.numel() for p in multiplied.values() if p.requires_grad),
        attention=_attention(getattr(model, "config", None), seq_len),
    )


def describe_model(name: str, costs: ModelCosts) -> str:
    """Sizes in a line, for the log."""
    trained = "" if costs.trainable == costs.parameters else f", {costs.trainable:,} of them trained"
    return f"{name}: {costs.parameters:,} parameters{trained}; {costs.flops_per_token() / 1e9:.3g} GFLOP a token"


def _attention(config: Any, seq_len: int) -> int:
    layers = getattr(config, "num_hidden_layers", 0)
    heads = getattr(config, "num_attention_heads", 0)
    width = heads * (getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // max(heads, 1))
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * layers
    window = getattr(config, "window", None) or getattr(config, "sliding_window", None)
    everywhere = getattr(config, "window", None) is not None or getattr(config, "use_sliding_window", None) is None
    if not getattr(config, "layer_types", None) and window and everywhere:
        kinds = ["sliding_attention"] * layers
    return sum(
        width * (min(seq_len, window) if window and kind == "sliding_attention" else seq_len) for kind in kinds[:layers]
    )
