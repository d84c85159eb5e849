"""`compile: {mode: block}`: the same losses, names and checkpoints, and nothing compiled anew from batch to batch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from codelm.config.train import TrainConfig
from codelm.errors import EnvironmentFailure
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.train import compiled
from codelm.train.compiled import compile_blocks
from codelm.train.composer_model import ComposerCausalLM, transformer_blocks
from codelm.train.run import dry_run, train

needs_compiler = pytest.mark.skipif(not compiled.has_compiler(), reason="torch.compile needs a C++ compiler on CPU")
# What dynamo sees does not depend on the backend, and this one takes no time.
EAGER = "eager"


def ours() -> PreTrainedModel:
    shape = {"d_model": 32, "n_heads": 4, "n_layers": 3, "vocab_size": 64, "max_seq_len": 96}
    return ReplitCodeForCausalLM(ReplitCodeConfig(**shape))


def llama() -> PreTrainedModel:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_hidden_layers": 3}
    return LlamaForCausalLM(LlamaConfig(**shape, vocab_size=64, max_position_embeddings=96))


def batch(seed: int) -> dict[str, torch.Tensor]:
    """Two rows of `seed + 2` packed documents."""
    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 64, (2, 96), generator=drawn)
    ends = torch.randint(0, 96, (2, seed + 1), generator=drawn)
    return {"input_ids": ids, "labels": ids, "sequence_id": (torch.arange(96)[None, :, None] >= ends[:, None]).sum(-1)}


def pair(
    make: Callable[[], PreTrainedModel], checkpointing: bool = False, backend: str = "inductor"
) -> tuple[ComposerCausalLM, ComposerCausalLM]:
    """The same model as it is and compiled."""
    found = []
    for compiling in (False, True):
        torch.manual_seed(1)
        model = make().train()
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if compiling:
            compile_blocks(transformer_blocks(model), "cpu", backend)
        found.append(ComposerCausalLM(model, torch.ones(64, dtype=torch.long)))
    return found[0], found[1]


@pytest.fixture(autouse=True)
def fresh_dynamo() -> None:
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize(
    "backend", [EAGER, pytest.param("inductor", marks=[pytest.mark.slow, needs_compiler])], ids=["eager", "inductor"]
)
@pytest.mark.parametrize("make", [ours, llama])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_gradients_and_names_are_those_of_the_plain_model(
    make: Callable[[], PreTrainedModel], checkpointing: bool, backend: str
) -> None:
    plain, fast = pair(make, checkpointing, backend)
    assert list(fast.state_dict()) == list(plain.state_dict())
    one, other = (model(batch(0)).loss for model in (plain, fast))
    one.backward()
    other.backward()
    assert counters["stats"]["unique_graphs"] > 0
    assert float(other.detach()) == pytest.approx(float(one.detach()), rel=1e-5)
    for (name, expected), found in zip(plain.model.named_parameters(), fast.model.parameters(), strict=True):
        assert expected.grad is not None, name
        assert torch.allclose(expected.grad, found.grad, atol=1e-5), name  # pyright: ignore


def test_documents_of_other_lengths_compile_nothing_anew() -> None:
    _, fast = pair(ours, backend=EAGER)
    fast(batch(0)).loss.backward()
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    for seed in range(1, 5):
        fast(batch(seed)).loss.backward()
    assert counters["stats"]["unique_graphs"] == graphs


def test_blocks_are_compiled_once_for_all_and_for_training_only() -> None:
    _, fast = pair(ours, backend=EAGER)
    with torch.no_grad():
        fast(batch(0))
    fast.eval()
    fast.eval_forward(batch(0))
    assert counters["stats"]["unique_graphs"] == 0
    fast.train()
    fast(batch(0)).loss.backward()
    torch._dynamo.reset()
    three_blocks = counters["stats"]["unique_graphs"]
    counters.clear()
    blocks = transformer_blocks(fast.model)
    fast.model.transformer.blocks = torch.nn.ModuleList(blocks[:1])  # pyright: ignore
    fast(batch(0)).loss.backward()
    assert counters["stats"]["unique_graphs"] == three_blocks


@pytest.mark.slow
@needs_compiler
def test_a_compiled_run_resumes_with_its_losses_which_are_those_of_a_plain_run(
    train_config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    model = {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2}
    losses = {}
    for name, section in (("plain", None), ("compiled", {"mode": "block"}), ("resumed", {"mode": "block"})):
        folder = tmp_path / name
        if name == "resumed":
            shutil.copytree(tmp_path / "compiled", folder, symlinks=True)
            shutil.rmtree(folder / "ba000008")
        train(train_config(model=model, save_folder=str(folder), compile=section))
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses[name] = [row["loss/train/total"] for row in rows if "loss/train/total" in row]
    assert len(losses["plain"]) == 8
    assert losses["compiled"] == pytest.approx(losses["plain"], rel=1e-4)
    assert losses["resumed"] == losses["compiled"]


def test_without_a_compiler_there_is_a_sentence(
    train_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    for run in (train, dry_run):
        with pytest.raises(
            EnvironmentFailure, match=r"needs a C\+\+ compiler on CPU, and no-such-compiler is not found"
        ):
            run(train_config(compile={"mode": "block"}))
