"""The model against MPT: what Replit's published code and llm-foundry computed (reference/README.md)."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM

REFERENCE = Path(__file__).parent / "reference"
LONG = ("bfloat16", "bfloat16_sequence_id")
VARIANTS = sorted(file.stem for file in REFERENCE.glob("*.safetensors") if file.stem not in ("weights", *LONG))


@dataclass(frozen=True)
class Recorded:
    config: dict[str, Any]
    """MPT's own, as its config.json has it."""
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]
    gradients: dict[str, Tensor]

    @property
    def documents(self) -> dict[str, Tensor]:
        return {"sequence_id": self.tensors["sequence_id"]} if "sequence_id" in self.tensors else {}


def read(name: str) -> Recorded:
    tensors = load_file(REFERENCE / f"{name}.safetensors")
    with safe_open(REFERENCE / f"{name}.safetensors", "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
    weights, gradients = (
        {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        for prefix in ("weights.", "gradients.")
    )
    shared = load_file(REFERENCE / "weights.safetensors")
    weights = {key: weights[key] if key in weights else shared[key] for key in metadata["state_dict"]}
    assert {key: list(value.shape) for key, value in weights.items()} == metadata["state_dict"]
    return Recorded(metadata["config"], weights, tensors, gradients)


def ours(recorded: Recorded, dtype: torch.dtype = torch.float32, **attention: Any) -> ReplitCodeForCausalLM:
    """Our model of the recorded configuration and weights; MPT has no key for the tied output layer."""
    config = {**recorded.config, "attn_config": {**recorded.config["attn_config"], **attention}}
    model = ReplitCodeForCausalLM(ReplitCodeConfig(**config))
    found = model.load_state_dict(recorded.weights, strict=False)
    assert (found.missing_keys, found.unexpected_keys) == (["lm_head.weight"], [])
    assert model.lm_head.weight is model.transformer.wte.weight
    return model.to(dtype).eval()


@pytest.fixture(params=VARIANTS)
def recorded(request) -> Recorded:
    return read(request.param)


def test_every_recorded_variant_is_here() -> None:
    assert len(VARIANTS) == 24


def test_the_logits_are_mpts(recorded) -> None:
    logits = ours(recorded)(recorded.tensors["ids"], **recorded.documents).logits
    assert (logits - recorded.tensors["logits"]).abs().max() <= 1e-5


def test_the_logits_are_mpts_with_padding_on_the_left(recorded) -> None:
    mask = recorded.tensors["mask"]
    logits = ours(recorded)(recorded.tensors["ids"], attention_mask=mask).logits
    assert (logits - recorded.tensors["logits_padded"])[mask.bool()].abs().max() <= 1e-5


def test_the_training_loss_and_its_gradients_are_mpts(recorded) -> None:
    model, ids = ours(recorded).train(), recorded.tensors["ids"]
    loss = model(ids, labels=ids, **recorded.documents).loss
    loss.backward()
    assert abs(loss - recorded.tensors["loss"]) <= 1e-5
    parameters = dict(model.named_parameters())
    assert "transformer.wte.weight" in recorded.gradients
    for name, expected in recorded.gradients.items():
        assert torch.allclose(parameters[name].grad, expected, atol=1e-5, rtol=1e-4), name


def test_the_greedy_tokens_are_mpts(recorded) -> None:
    ids, mask, expected = (recorded.tensors[name] for name in ("ids", "mask", "greedy"))
    tokens = ours(recorded).generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=expected.shape[1], pad_token_id=0
    )
    assert torch.equal(tokens[:, ids.shape[1] :], expected)


def test_the_variants_differ_from_each_other() -> None:
    """A setting that were ignored would otherwise pass wherever it changes nothing."""
    logits = {name: read(name).tensors["logits"] for name in VARIANTS}
    same = {
        (one, other)
        for one in VARIANTS
        for other in VARIANTS
        if one < other and (logits[one] - logits[other]).abs().max() < 1e-3
    }
    # A fraction of the embedding's gradient changes no logit, and layer norms differ only under autocast.
    fraction = {("default", "embedding_fraction"), ("learned_positions", "learned_positions_fraction")}
    assert same == {*fraction, ("bias", "layernorm")}


def test_the_legacy_bias_gives_mpts_logits_in_fp32() -> None:
    for name in ("default", "six_heads", "sequence_id", "alibi_bias_max", "grouped", "sliding_window"):
        recorded = read(name)
        model = ours(recorded, alibi_form="legacy")
        logits = model(recorded.tensors["ids"], **recorded.documents).logits
        assert (logits - recorded.tensors["logits"]).abs().max() <= 1e-5, name


def in_steps(model: ReplitCodeForCausalLM, long: Recorded) -> Tensor:
    """The logits of the last tokens, given one at a time."""
    ids, steps = long.tensors["ids"], long.tensors["logits_cached"].shape[1]
    output, parts = model(ids[:, :-steps], use_cache=True), []
    for token in ids[:, -steps:].split(1, dim=1):
        output = model(token, past_key_values=output.past_key_values, use_cache=True)
        parts.append(output.logits)
    return torch.cat(parts, dim=1)


BFLOAT16: dict[str, tuple[str, str, Callable[[ReplitCodeForCausalLM, Recorded], Tensor]]] = {
    "alone": ("bfloat16", "logits", lambda model, long: model(long.tensors["ids"]).logits),
    "packed documents": (
        "bfloat16_sequence_id",
        "logits",
        lambda model, long: model(long.tensors["ids"], **long.documents).logits,
    ),
    "padding on the left": (
        "bfloat16",
        "logits_padded",
        lambda model, long: model(long.tensors["ids"], attention_mask=long.tensors["mask"]).logits,
    ),
    "the cache": ("bfloat16", "logits_cached", in_steps),
}


def bfloat16_errors() -> dict[str, list[float]]:
    """The greatest difference to the recorded bfloat16 logits, of the legacy form and of the relative one."""
    errors = {}
    for case, (name, recorded, compute) in BFLOAT16.items():
        reference = read(name)
        expected = reference.tensors[recorded].float()
        counted = reference.tensors["mask"].bool() if recorded == "logits_padded" else ...
        models = [ours(reference, torch.bfloat16, alibi_form=form) for form in ("legacy", "relative")]
        with torch.no_grad():
            found = [compute(model, reference).float() for model in models]
        errors[case] = [(logits - expected)[counted].abs().max().item() for logits in found]
    return errors


@pytest.fixture(scope="module")
def errors() -> dict[str, list[float]]:
    """`bfloat16_errors` of a process that sums as the processor of the recordings did.

    Processors with instructions for bf16 sum its products in another order, unless oneDNN is kept from using them.
    """
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("case", "gap"), [*zip(BFLOAT16, (0.5, 0.5, 0.5, 0.1), strict=True)])
def test_the_legacy_bias_gives_replits_bfloat16_logits_bit_for_bit(errors, case, gap) -> None:
    legacy, relative = errors[case]
    assert legacy == 0
    assert relative > gap


def test_on_this_processor_they_are_replits_to_the_rounding_of_bfloat16() -> None:
    for case, (legacy, relative) in bfloat16_errors().items():
        assert legacy < 0.1 * relative, case


if __name__ == "__main__":
    print(json.dumps(bfloat16_errors()))
