"""The files of yamls/pretrain really run, scaled down as a user can do it; nothing else of them is changed."""

import json
from pathlib import Path

import pytest

from codelm.config import load_config
from codelm.config.sizes import SIZES
from codelm.train.run import train

YAMLS = Path(__file__).parents[2] / "yamls"
PRETRAIN = YAMLS / "pretrain"
TINY = ["model.d_model=32", "model.n_heads=4", "model.n_layers=1"]


@pytest.mark.parametrize("size", SIZES)
def test_a_pre_training_runs_and_logs_every_language(size: str, corpus: Path, tmp_path: Path) -> None:
    paths = [f"train_data.path={corpus}", f"eval_data.heldout.path={corpus}", f"tokenizer.path={corpus}/tokenizer"]
    data = ["train_data.mixture={python: 3, c: 1}", "eval_data.heldout.max_samples_per_language=2"]
    small = [str(YAMLS / "scale_down.yaml"), *TINY, *paths, *data, f"save_folder={tmp_path}/run"]
    train(load_config("train", str(PRETRAIN / f"{size}.yaml"), small))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = {key for line in lines for key in line}
    assert {"metrics/python/BitsPerByte", "metrics/c/BitsPerByte"} <= logged
    assert (tmp_path / "run" / "ba000004" / "model.safetensors").is_file()


@pytest.mark.parametrize("size", SIZES)
def test_a_pre_training_has_the_model_of_its_name(size: str) -> None:
    config = load_config("train", str(PRETRAIN / f"{size}.yaml"))
    assert config.model.model_dump(include=set(SIZES[size])) == SIZES[size]
    assert config.run_name == f"replit-code-{size}"


def test_the_recipe_of_3b_is_what_the_model_card_says() -> None:
    config = load_config("train", str(PRETRAIN / "3b.yaml"))
    assert config.max_duration == "525000000000tok"
    assert config.optimizer.name == "lionw"
    assert config.max_seq_len == 2048
    assert config.fsdp_config is not None
