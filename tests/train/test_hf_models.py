"""`hf_causal_lm`: models of transformers train, save, load and resume; damaged ones are refused."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, ConfigError, EnvironmentFailure, TokenizerError
from codelm.model.pretrained import save_transformers
from codelm.tokenizer import load_tokenizer
from codelm.tokenizer_training import train_tokenizer
from codelm.train.run import dry_run, train

Make = Callable[..., TrainConfig]
PADDED_VOCAB = 576
CONSTANT = {"name": "constant_with_warmup", "t_warmup": "2ba"}


def llama(folder: Path, corpus: Path, positions: int = 256, tied: bool = True) -> dict[str, Any]:
    """Write a small model with more embeddings than its tokenizer has tokens; return its section of the YAML."""
    torch.manual_seed(1)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=PADDED_VOCAB,
        max_position_embeddings=positions,
        tie_word_embeddings=tied,
    )
    save_transformers(LlamaForCausalLM(config), config, corpus / "tokenizer", folder)
    return {"name": "hf_causal_lm", "pretrained_model_name_or_path": str(folder)}


def losses(save_folder: Path) -> dict[int, float]:
    rows = [json.loads(line) for line in (save_folder / "metrics.jsonl").read_text().splitlines()]
    return {row["batch"]: row["loss/train/total"] for row in rows if "loss/train/total" in row}


def test_a_transformers_model_resumes(train_config: Make, corpus: Path, tmp_path: Path) -> None:
    settings = {"model": llama(tmp_path / "base", corpus), "activation_checkpointing": True, "scheduler": CONSTANT}
    for duration in ("4ba", "8ba"):
        train(train_config(save_folder=str(tmp_path / "parts"), max_duration=duration, **settings))
    train(train_config(save_folder=str(tmp_path / "whole"), **settings))
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


@pytest.mark.parametrize("tied", [True, False])
def test_a_transformers_model_trains_and_loads_again(
    train_config: Make, corpus: Path, tmp_path: Path, tied: bool
) -> None:
    evaluation = {"interval": "8ba", "tasks": {"humaneval": {"limit": 2, "max_new_tokens": 8}}}
    settings = {"model": llama(tmp_path / "base", corpus, tied=tied), "callbacks": {"code_eval": evaluation}}
    whole = train(train_config(save_folder=str(tmp_path / "whole"), **settings))
    assert "eval/humaneval/pass@1" in (tmp_path / "whole" / "metrics.jsonl").read_text()

    loaded: Any = AutoModelForCausalLM.from_pretrained(whole, output_loading_info=True)
    model, report = loaded
    assert not report["missing_keys"]
    assert model.get_input_embeddings().weight.shape[0] == PADDED_VOCAB
    shared = model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert shared == tied
    text = "def main():\n    return None\n"
    assert AutoTokenizer.from_pretrained(whole)(text).input_ids == load_tokenizer(corpus / "tokenizer").encode(text)


def test_a_pretrained_model_that_lacks_weights_is_refused(train_config: Make, corpus: Path, tmp_path: Path) -> None:
    section = llama(tmp_path / "base", corpus)
    file = tmp_path / "base" / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lacks 1 weights of its architecture \(model.layers.1.mlp.up_proj"):
        dry_run(train_config(model=section))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="cannot be loaded: "):
        dry_run(train_config(model=section))


def test_a_model_for_shorter_samples_is_refused(train_config: Make, corpus: Path, tmp_path: Path) -> None:
    section = llama(tmp_path / "base", corpus, positions=128)
    with pytest.raises(ConfigError, match=r"max_seq_len is 256, and .*base takes at most 128 tokens"):
        dry_run(train_config(model=section))


@pytest.mark.skipif(importlib.util.find_spec("flash_attn") is not None, reason="flash-attn is installed")
def test_flash_attention_without_its_package_is_refused(train_config: Make, corpus: Path, tmp_path: Path) -> None:
    section = {**llama(tmp_path / "base", corpus), "attn_impl": "flash"}
    with pytest.raises(EnvironmentFailure, match=r"model.attn_impl flash needs the package flash-attn, .*=sdpa"):
        dry_run(train_config(model=section))


def test_a_family_without_sdpa_is_refused_with_the_remedy(train_config: Make, corpus: Path, tmp_path: Path) -> None:
    config = BloomConfig(hidden_size=32, n_layer=1, n_head=4, vocab_size=PADDED_VOCAB)
    save_transformers(BloomForCausalLM(config), config, corpus / "tokenizer", tmp_path / "bloom")
    section = {"name": "hf_causal_lm", "pretrained_model_name_or_path": str(tmp_path / "bloom")}
    with pytest.raises(ConfigError, match=r"model.attn_impl sdpa: .*bloom is of a family .* set model.attn_impl=eager"):
        dry_run(train_config(model=section))


def test_weights_of_another_tokenizer_with_as_many_tokens_are_refused(train_config: Make, tmp_path: Path) -> None:
    first = train(train_config(max_duration="1ba"))
    texts = [path.read_text() for path in sorted(Path(json.__file__).parent.glob("*.py"))]
    for file in ("tokenizer.json", "spiece.model", "fingerprint.json"):
        (first / file).unlink()
    for file in train_tokenizer(texts, 512, tmp_path / "other").path.iterdir():
        (first / file.name).write_bytes(file.read_bytes())
    with pytest.raises(TokenizerError, match=r"load_path .* was trained with another tokenizer: .* is not"):
        dry_run(train_config(save_folder=str(tmp_path / "second"), load_path=str(first)))
