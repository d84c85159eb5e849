"""A footprint of any depth and microbatch is that of the whole model with all its samples."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from codelm.config.train import TrainConfig
from codelm.train.planning import footprint as module
from codelm.train.planning.footprint import Conditions, architecture, footprint

Make = Callable[..., TrainConfig]
FP32 = Conditions(torch.float32, mixed=False, chunk=2**22, accumulates=True)
BF16 = Conditions(torch.bfloat16, mixed=True, chunk=2**16, accumulates=True)

OURS = {"name": "replit_code", "d_model": 64, "n_heads": 4, "n_layers": 8}


@pytest.mark.parametrize("under", [FP32, BF16], ids=["fp32", "bf16"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
def test_two_depths_tell_of_any_depth(
    train_config: Make, under: Conditions, recompute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = train_config(model=OURS, activation_checkpointing=recompute)
    plan = architecture(config, 512)
    told = footprint(plan, config, 2, under)
    monkeypatch.setattr(module, "_DEPTHS", (8, 9))
    whole = footprint(plan, config, 2, under)
    assert told.activations == pytest.approx(whole.activations, rel=0.02)
    assert sum(told.operations.values()) == pytest.approx(sum(whole.operations.values()), rel=0.02)
    flops = [sum(count * of.flops for of, count in found.operations.items()) for found in (told, whole)]
    assert flops[0] == pytest.approx(flops[1], rel=0.01)


def test_two_microbatches_tell_of_a_large_one(train_config: Make) -> None:
    config = train_config(model={**OURS, "n_layers": 2})
    plan = architecture(config, 512)
    told = footprint(plan, config, 24, BF16)
    whole = module._of_depth(plan, config, 24, BF16)
    assert told.activations == pytest.approx(whole.activations, rel=0.03)


def test_recomputing_takes_less_memory_and_more_arithmetic(train_config: Make) -> None:
    found = []
    for recompute in (False, True):
        config = train_config(model=OURS, activation_checkpointing=recompute)
        found.append(footprint(architecture(config, 512), config, 2, FP32))
    kept, recomputed = found
    assert recomputed.activations < kept.activations / 2
    arithmetic = [sum(n * o.flops for o, n in one.operations.items() if o.kind == "matmul") for one in found]
    assert 1.15 < arithmetic[1] / arithmetic[0] < 1.34


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_families_of_transformers_are_planned_too(family: str, train_config: Make, tmp_path: Path) -> None:
    shape: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    }
    model = LlamaForCausalLM(LlamaConfig(**shape)) if family == "llama" else Qwen2ForCausalLM(Qwen2Config(**shape))
    model.save_pretrained(tmp_path / family)
    section = {"name": "hf_causal_lm", "pretrained_model_name_or_path": str(tmp_path / family)}
    config = train_config(model=section)
    plan = architecture(config, 512)
    assert plan.costs.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert plan.layers == 6
    found = footprint(plan, config, 2, FP32)
    assert found.activations > 2 * 256 * 64 * 4 * 6
    assert {operation.kind for operation in found.operations} == {"matmul", "attention", "other"}


def test_adapters_train_few_weights(train_config: Make, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    model = {**OURS, "peft_config": {"r": 4}}
    config = train_config(model=model, load_path=str(tmp_path))
    plan = architecture(config, 512)
    assert 0 < plan.costs.trainable < plan.costs.parameters / 4
    assert footprint(plan, config, 1, FP32).activations > 0
