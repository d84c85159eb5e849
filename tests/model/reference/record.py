"""Records what MPT computes on tiny models, for tests/model/test_reference.py; how to run it is in README.md.

    python record.py PACKAGE VARIANT…

PACKAGE holds the modules `configuration_mpt` and `modeling_mpt` (llmfoundry.models.mpt, for one).
"""

import copy
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

FOLDER = Path(__file__).parent
WEIGHTS = FOLDER / "weights.safetensors"
SEQ, PADDED, NEW_TOKENS = 24, 7, 8

BASE: dict[str, Any] = {
    "d_model": 24,
    "n_heads": 4,
    "n_layers": 2,
    "expansion_ratio": 4,
    "max_seq_len": 32,
    "vocab_size": 48,
    "attn_config": {"attn_impl": "torch", "alibi": True},
    "no_bias": True,
    "use_cache": True,
    "eos_token_id": None,
}
GROUPED = {"attn_type": "grouped_query_attention", "kv_n_heads": 2}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "six_heads": {"n_heads": 6},
    "clip_qk_ln": {"attn_config": {"clip_qkv": 0.7, "qk_ln": True}},
    "bias": {"no_bias": False},
    "bias_qk_ln": {"no_bias": False, "attn_config": {"qk_ln": True}},
    "scales": {"logit_scale": 0.25, "attn_config": {"softmax_scale": 0.7}},
    "inv_sqrt_d_model": {"logit_scale": "inv_sqrt_d_model"},
    "learned_positions": {"attn_config": {"alibi": False}},
    "learned_positions_fraction": {"embedding_fraction": 0.3, "attn_config": {"alibi": False}},
    "multiquery": {"attn_config": {"attn_type": "multiquery_attention"}},
    "multiquery_qk_ln": {"attn_config": {"attn_type": "multiquery_attention", "qk_ln": True}},
    "sequence_id": {"attn_config": {"attn_uses_sequence_id": True}},
    "embedding_fraction": {"embedding_fraction": 0.5},
    "alibi_bias_max": {"attn_config": {"alibi_bias_max": 4}},
    "expansion_ratio": {"expansion_ratio": 2},
    "layernorm": {"norm_type": "layernorm", "no_bias": False},
    "rmsnorm": {"norm_type": "rmsnorm"},
    "low_precision_rmsnorm_bias": {"norm_type": "low_precision_rmsnorm", "no_bias": False},
    "rmsnorm_qk_ln_norm_eps": {"norm_type": "rmsnorm", "norm_eps": 1e-3, "attn_config": {"qk_ln": True}},
    "grouped": {"n_heads": 6, "attn_config": GROUPED},
    "grouped_all": {"no_bias": False, "attn_config": {**GROUPED, "qk_ln": True, "clip_qkv": 0.7}},
    "sliding_window": {"attn_config": {"sliding_window_size": 8}},
    "sliding_window_sequence_id": {"attn_config": {"sliding_window_size": 4, "attn_uses_sequence_id": True}},
    "sliding_window_learned_positions": {"attn_config": {"alibi": False, "sliding_window_size": 3}},
}
LONG_SEQ = 320
LONG = {"d_model": 32, "n_heads": 16, "max_seq_len": 512}
BFLOAT16: dict[str, dict[str, Any]] = {
    "bfloat16": LONG,
    # A full row, as in training: in a shorter one Replit's code anchors the bias of packed documents elsewhere.
    "bfloat16_sequence_id": {**LONG, "max_seq_len": LONG_SEQ, "attn_config": {"attn_uses_sequence_id": True}},
}
"""Long enough, and with slopes that are not powers of two, for the rounding of the bias to show."""


def main() -> None:
    package, *names = sys.argv[1:]
    for name in names:
        if name in BFLOAT16:
            _record_bfloat16(package, name)
        else:
            _record(package, name)


def _record(package: str, name: str) -> None:
    model, config = _model(package, VARIANTS[name])
    shared = _shared_weights()
    own = {
        key: value
        for key, value in _draw_weights(model, shared).items()
        if key not in shared or value is not shared[key]
    }
    model.load_state_dict({key: own.get(key, shared.get(key)) for key in model.state_dict()})
    documents = torch.tensor([[0] * 9 + [1] * 10 + [2] * 5, [0] * 1 + [1] * 23])
    packed = {"sequence_id": documents} if config["attn_config"]["attn_uses_sequence_id"] else {}
    mask = torch.ones_like(documents)
    mask[0, :PADDED] = 0
    model.eval()
    ids, greedy = next(pair for seed in range(7, 100) if (pair := _greedy(model, seed, mask)))
    tensors = {"ids": ids, "mask": mask, "greedy": greedy, **packed}

    model.train()
    loss = model(ids, labels=ids, **packed).loss
    loss.backward()
    model.eval()
    with torch.no_grad():
        tensors["logits"] = model(ids, **packed).logits
        tensors["logits_padded"] = model(ids, attention_mask=mask).logits
    tensors["loss"] = loss.detach()
    left_out = ("blocks.1.", "up_proj.weight", "down_proj.weight")
    gradients = {
        key: value.grad for key, value in model.named_parameters() if not any(part in key for part in left_out)
    }
    _save(name, package, model, tensors, {"weights": own, "gradients": gradients})


def _record_bfloat16(package: str, name: str) -> None:
    model, config = _model(package, BFLOAT16[name])
    own = {key: value.bfloat16() for key, value in _draw_weights(model, {}).items()}
    model.load_state_dict(own)
    model.bfloat16().eval()
    ids = torch.randint(3, config["vocab_size"], (1, LONG_SEQ), generator=torch.Generator().manual_seed(7))
    mask = torch.ones_like(ids)
    mask[0, :100] = 0
    tensors = {"ids": ids, "mask": mask}
    with torch.no_grad():
        if config["attn_config"]["attn_uses_sequence_id"]:
            tensors["sequence_id"] = (torch.arange(LONG_SEQ) // 130)[None]
            tensors["logits"] = model(ids, sequence_id=tensors["sequence_id"]).logits
        else:
            tensors["logits"] = model(ids).logits
            tensors["logits_padded"] = model(ids, attention_mask=mask).logits
            tensors["logits_cached"] = _in_steps(model, ids, LONG_SEQ - 20)
    _save(name, package, model, tensors, {"weights": own})


def _model(package: str, changes: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    attention = {**BASE["attn_config"], **changes.get("attn_config", {})}
    if not package.startswith("llmfoundry"):
        attention = {**attention, "prefix_lm": False}
    fields = copy.deepcopy({**BASE, **changes, "attn_config": attention})
    config = importlib.import_module(f"{package}.configuration_mpt").MPTConfig(**fields)
    model = importlib.import_module(f"{package}.modeling_mpt").MPTForCausalLM(config)
    return model, config.to_dict()


def _shared_weights() -> dict[str, Tensor]:
    return load_file(WEIGHTS) if WEIGHTS.is_file() else {}


def _draw_weights(model: Any, shared: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights far from their initialisation, so that norms and biases count; the shared ones where they fit."""
    generator, drawn = torch.Generator().manual_seed(5), {}
    rms = "rms" in model.config.norm_type
    for key, value in model.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        if key in shared and shared[key].shape == value.shape and not (rms and key.endswith("wte.weight")):
            drawn[key] = shared[key]
        elif "norm" in key or "_ln." in key or key.endswith("bias"):
            drawn[key] = 0.3 * noise + (0 if key.endswith("bias") else 1)
        elif rms and key.endswith("wte.weight"):
            # So small that the norms' epsilon counts.
            drawn[key] = 0.005 * noise
        else:
            drawn[key] = noise * (1.5 / value.shape[-1] ** 0.5)
    return drawn


@torch.no_grad()
def _greedy(model: Any, seed: int, mask: Tensor) -> tuple[Tensor, Tensor] | None:
    """Ids, and the most likely tokens after them, with padding and the cache; None when a decision is close."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, model.config.vocab_size, mask.shape, generator=generator)
    output, tokens = model(ids, attention_mask=mask, use_cache=True), []
    for _ in range(NEW_TOKENS):
        best = output.logits[:, -1].topk(2)
        if (best.values[:, 0] - best.values[:, 1]).min() < 1e-3 * best.values.abs().max():
            return None
        tokens.append(best.indices[:, :1])
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        output = model(tokens[-1], attention_mask=mask, past_key_values=output.past_key_values, use_cache=True)
    return ids, torch.cat(tokens, dim=1)


def _in_steps(model: Any, ids: Tensor, first: int) -> Tensor:
    output = model(ids[:, :first], use_cache=True)
    parts = [output.logits]
    for step in range(first, ids.shape[1]):
        mask = torch.ones_like(ids[:, : step + 1])
        cache = output.past_key_values
        output = model(ids[:, step : step + 1], attention_mask=mask, past_key_values=cache, use_cache=True)
        parts.append(output.logits)
    return torch.cat(parts, dim=1)[:, first:]


def _save(
    name: str, package: str, model: Any, tensors: dict[str, Tensor], groups: dict[str, dict[str, Tensor]]
) -> None:
    for group, members in groups.items():
        tensors |= {f"{group}.{key}": value for key, value in members.items()}
    record = {
        "config": json.loads(model.config.to_json_string()),
        "state_dict": {key: list(value.shape) for key, value in model.state_dict().items()},
        "source": f"{package}, torch {torch.__version__.partition('+')[0]}, transformers {transformers.__version__}",
    }
    metadata = {key: json.dumps(value, sort_keys=True) for key, value in record.items()}
    save_file({key: value.contiguous() for key, value in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)
    if name == "default":
        save_file(dict(model.state_dict()), WEIGHTS)


if __name__ == "__main__":
    main()
