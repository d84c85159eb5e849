"""The card that a run leaves in its last checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from codelm.config.train import TrainConfig
from codelm.export.checkpoint_card import leave_checkpoint_card, write_checkpoint_card
from codelm.train.run import train


@pytest.fixture(scope="module")
def checkpoint(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {
        "run_name": "carded",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "train_data": {"path": str(corpus)},
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 2}},
        "optimizer": {"name": "lionw", "lr": 1e-3},
        "max_duration": "2ba",
        "global_train_batch_size": 2,
        "device_train_microbatch_size": 2,
        "device": "cpu",
        "save_folder": str(tmp_path_factory.mktemp("card") / "run"),
        "save_interval": "2ba",
    }
    return train(TrainConfig.model_validate(settings))


def test_it_names_the_run_its_size_its_data_and_its_scores(checkpoint: Path) -> None:
    assert write_checkpoint_card(checkpoint)
    text = (checkpoint / "README.md").read_text()
    assert "# carded" in text
    parameters = 512 * 32 + 2 * (2 * 32 + 12 * 32 * 32) + 32
    assert f"with {parameters:,} parameters" in text
    assert "| Python |" in text
    assert "| bits per byte, python |" in text
    assert "PSF-2.0" in text
    assert "Measured at export" not in text
    assert yaml.safe_load(text.split("---\n")[1])["library_name"] == "transformers"


def test_the_checkpoint_still_resumes(checkpoint: Path) -> None:
    """A card that came after the hashes were taken does not make a checkpoint torn."""
    write_checkpoint_card(checkpoint)
    config = TrainConfig.model_validate(json.loads((checkpoint / "run.json").read_text())["config"])
    assert train(config.model_copy(update={"max_duration": "3ba"})).name == "ba000003"


def test_a_folder_without_a_run_gets_none(checkpoint: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    (copy / "run.json").unlink()
    (copy / "README.md").unlink(missing_ok=True)
    assert not write_checkpoint_card(copy)
    leave_checkpoint_card(copy)
    assert not (copy / "README.md").exists()
