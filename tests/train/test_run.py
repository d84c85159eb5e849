"""A run on one rank: it learns, resumes to the bit, and refuses what does not fit with one sentence."""

import json
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, MptForCausalLM

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, CodelmError, ConfigError, DataError, EnvironmentFailure, TokenizerError
from codelm.model import ReplitCodeForCausalLM
from codelm.tokenizer import load_tokenizer
from codelm.tokenizer_training import train_tokenizer
from codelm.train.checkpoints.hashes import write_hashes
from codelm.train.checkpoints.run_file import read_run
from codelm.train.run import dry_run, train

Make = Callable[..., TrainConfig]


def rows(save_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (save_folder / "metrics.jsonl").read_text().splitlines()]


def losses(save_folder: Path) -> dict[int, float]:
    return {row["batch"]: row["loss/train/total"] for row in rows(save_folder) if "loss/train/total" in row}


def test_a_run_learns_and_leaves_checkpoints_that_transformers_loads(train_config: Make, corpus: Path) -> None:
    config = train_config(max_duration="40ba", save_interval="20ba", eval_first=True, eval_interval="20ba")
    final = train(config)
    save_folder = Path(config.save_folder)
    assert final == save_folder / "ba000040"
    assert (save_folder / "latest").resolve() == final.resolve()
    left = {path.name for path in save_folder.iterdir()}
    assert left == {".lock", "ba000020", "ba000040", "latest", "metrics.jsonl", "report.html"}

    name = "metrics/python/BitsPerByte"
    bits = {row["batch"]: row[name] for row in rows(save_folder) if name in row}
    assert set(bits) == {0, 20, 40}
    assert bits[40] < 0.9 * bits[0]

    assert isinstance(AutoModelForCausalLM.from_pretrained(final), ReplitCodeForCausalLM)
    _, report = MptForCausalLM.from_pretrained(final, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    text = "def main():\n    return None\n"
    ids = AutoTokenizer.from_pretrained(final)(text).input_ids
    assert ids == load_tokenizer(corpus / "tokenizer").encode(text)
    run = read_run(final)
    assert run["batch"] == 40
    assert run["config"]["optimizer"]["name"] == "lionw"
    assert run["tokenizer"] == load_tokenizer(corpus / "tokenizer").fingerprint().to_dict()


def test_a_killed_run_goes_on_with_the_same_batches_and_the_same_losses(train_config: Make, tmp_path: Path) -> None:
    """What a SIGKILL after batch 6 leaves: the checkpoint of batch 4, metrics beyond it, and a half-written folder."""
    whole = train_config(save_folder=str(tmp_path / "whole"), eval_interval="3ba")
    train(whole)
    killed = tmp_path / "killed"
    shutil.copytree(tmp_path / "whole", killed, symlinks=True)
    shutil.rmtree(killed / "ba000008")
    (killed / ".tmp-ba000008-7-2-0").mkdir()
    (killed / ".tmp-ba000008-7-2-0" / "model.safetensors").write_bytes(b"half")
    train(train_config(save_folder=str(killed), eval_interval="3ba"))
    assert losses(killed) == losses(tmp_path / "whole")
    one, other = (load_file(folder / "ba000008" / "model.safetensors") for folder in (tmp_path / "whole", killed))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not list(killed.glob(".tmp*"))


def test_evaluation_does_not_move_the_training_random_numbers(train_config: Make, tmp_path: Path) -> None:
    train(train_config(save_folder=str(tmp_path / "without"), eval_data={}))
    train(train_config(save_folder=str(tmp_path / "with"), eval_interval="1ba", eval_first=True))
    assert losses(tmp_path / "with") == losses(tmp_path / "without")


def test_gradient_accumulation_changes_nothing_but_rounding(train_config: Make, tmp_path: Path) -> None:
    model = {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2}
    adamw = {"name": "adamw", "lr": 1e-4}
    for size in (1, 4):
        folder = str(tmp_path / str(size))
        train(train_config(device_train_microbatch_size=size, save_folder=folder, model=model, optimizer=adamw))
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "4"), rel=1e-4)


def test_activation_checkpointing_changes_no_loss(train_config: Make, tmp_path: Path) -> None:
    for on in (False, True):
        train(train_config(activation_checkpointing=on, save_folder=str(tmp_path / str(on))))
    assert losses(tmp_path / "True") == losses(tmp_path / "False")


def test_a_finished_run_is_not_trained_again_but_can_be_made_longer(train_config: Make) -> None:
    final = train(train_config())
    before = (final / "model.safetensors").stat().st_mtime_ns
    assert train(train_config()) == final
    assert (final / "model.safetensors").stat().st_mtime_ns == before
    assert "would have nothing to do" in "\n".join(dry_run(train_config()))
    assert "would resume from" in "\n".join(dry_run(train_config(max_duration="10ba")))
    assert train(train_config(max_duration="10ba")).name == "ba000010"


def test_load_path_starts_from_the_weights_of_a_checkpoint(train_config: Make, tmp_path: Path) -> None:
    first = train(train_config(max_duration="20ba", save_interval="20ba"))
    second = train_config(save_folder=str(tmp_path / "second"), load_path=str(first), eval_first=True)
    train(second)
    started, ended = (
        next(row for row in rows(folder) if row["batch"] == batch and "metrics/python/CrossEntropy" in row)
        for folder, batch in ((tmp_path / "second", 0), (Path(train_config().save_folder), 20))
    )
    assert started["metrics/python/CrossEntropy"] == pytest.approx(ended["metrics/python/CrossEntropy"], rel=1e-5)


def test_a_dry_run_builds_everything_and_writes_nothing(train_config: Make) -> None:
    config = train_config()
    lines = "\n".join(dry_run(config))
    assert "8 batches of 4 samples of 256 tokens: 8,192 tokens" in lines
    assert "python 75.0%" in lines
    assert "would start afresh" in lines
    assert not Path(config.save_folder).exists()


def test_tokens_and_epochs_are_units_too(train_config: Make) -> None:
    assert "8 batches of" in dry_run(train_config(max_duration=f"{8 * 4 * 256}tok"))[0]
    epoch = int(dry_run(train_config(max_duration="1ep"))[0].split()[0].replace(",", ""))
    assert epoch > 30


# What is refused, each with one sentence that names the thing and the fix.


def test_a_checkpoint_of_another_architecture(train_config: Make) -> None:
    train(train_config())
    other = {"name": "replit_code", "d_model": 64, "n_heads": 4, "n_layers": 2, "resid_pdrop": 0.1}
    with pytest.raises(CheckpointError, match=r"is of another model \(model.d_model was 32 and is now 64\)"):
        train(train_config(model=other, max_duration="10ba"))


def test_a_checkpoint_from_before_a_key_existed_goes_on_as_does_one_of_another_attn_impl(train_config: Make) -> None:
    final = train(train_config())
    run = json.loads((final / "run.json").read_text())
    del run["config"]["model"]["no_bias"], run["config"]["model"]["attn_config"]["qk_ln"]
    run["config"]["model"]["attn_config"]["attn_impl"] = "triton"
    (final / "run.json").write_text(json.dumps(run))
    write_hashes(final, {})
    assert train(train_config(max_duration="10ba")).name == "ba000010"


def test_what_a_run_descends_from_is_looked_up_once(train_config: Make, tmp_path: Path) -> None:
    first = train(train_config())
    second = {"save_folder": str(tmp_path / "second"), "load_path": str(first)}
    lineage = read_run(train(train_config(**second)))["lineage"]
    assert [ancestor["part"] for ancestor in lineage] == ["weights"]
    assert read_run(first)["lineage"] == []
    shutil.rmtree(first)
    assert read_run(train(train_config(**second, max_duration="10ba")))["lineage"] == lineage


def test_resuming_on_another_mixture(train_config: Make, train_settings: dict[str, Any]) -> None:
    train(train_config())
    data = {**train_settings["train_data"], "mixture": "corpus"}
    with pytest.raises(CheckpointError, match=r"on this data: mixture was \{'c': 0.25, 'python': 0.75\}"):
        train(train_config(train_data=data, max_duration="10ba"))


def test_a_used_save_folder_without_autoresume(train_config: Make) -> None:
    train(train_config())
    with pytest.raises(CheckpointError, match="already holds ba000008; set autoresume=true"):
        train(train_config(autoresume=False))


def test_load_path_of_another_shape(train_config: Make, tmp_path: Path) -> None:
    first = train(train_config())
    other = {"name": "replit_code", "d_model": 64, "n_heads": 4, "n_layers": 2}
    with pytest.raises(CheckpointError, match=r"load_path .* is of another architecture: .* is \(512, 32\) there and"):
        train(train_config(model=other, save_folder=str(tmp_path / "second"), load_path=str(first)))


def damaged(corpus: Path, tmp_path: Path) -> tuple[Path, Path]:
    copy = tmp_path / "damaged"
    shutil.copytree(corpus, copy)
    return copy, next((copy / "train" / "python").glob("*.mds"))


def test_a_truncated_shard(train_config: Make, corpus: Path, tmp_path: Path) -> None:
    copy, shard = damaged(corpus, tmp_path)
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(DataError, match=shard.name):
        train(train_config(train_data={"path": str(copy)}))


def test_a_shard_whose_hash_is_wrong(train_config: Make, corpus: Path, tmp_path: Path) -> None:
    copy, shard = damaged(corpus, tmp_path)
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"{shard.name} has other contents"):
        train(train_config(train_data={"path": str(copy)}))


def test_a_tokenizer_that_is_not_the_shards(train_config: Make, tmp_path: Path) -> None:
    texts = [path.read_text() for path in Path(textwrap.__file__).parent.glob("t*.py")]
    train_tokenizer(texts, 512, tmp_path / "other")
    with pytest.raises(TokenizerError, match="another tokenizer than"):
        train(train_config(tokenizer={"path": str(tmp_path / "other")}))


def test_data_that_is_not_there(train_config: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prepared data at .*nowhere"):
        train(train_config(train_data={"path": str(tmp_path / "nowhere")}))


def test_another_sequence_length(train_config: Make) -> None:
    with pytest.raises(DataError, match="set max_seq_len=256"):
        train(train_config(max_seq_len=128))


def test_a_save_folder_that_cannot_be(train_config: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match=r"save_folder: .*file/run cannot be made \(Not a directory\)"):
        train(train_config(save_folder=str(tmp_path / "file" / "run")))


def test_a_gpu_that_is_not_there(train_config: Make) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one here")
    with pytest.raises(ConfigError, match="device is gpu, but torch sees no CUDA device"):
        train(train_config(device="gpu"))


def test_a_run_that_diverges_stops_before_a_weight_is_no_number(train_config: Make) -> None:
    config = train_config(
        optimizer={"name": "adamw", "lr": 1e30},
        save_interval="1ba",
        scheduler={"name": "constant_with_warmup"},
        callbacks={"nan_guard": {"max_skipped_steps": 3}},
    )
    with pytest.raises(
        CodelmError, match=r"was NaN or infinite in all of the batches \d to \d; their steps were skipped"
    ):
        train(config)
    newest = sorted(Path(config.save_folder).glob("ruined-ba*"))[-1]
    assert all(torch.isfinite(tensor).all() for tensor in load_file(newest / "model.safetensors").values())
