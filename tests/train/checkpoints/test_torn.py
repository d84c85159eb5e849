"""A damaged newest checkpoint is recognised, set aside, and the one before it is used."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.errors import CheckpointError, EnvironmentFailure
from codelm.train.checkpoints.hashes import HASHES, damage
from codelm.train.run import dry_run, train


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


DAMAGES = {
    "a flipped bit in the weights": ("model.safetensors", flip_a_byte, "is not what was written"),
    "a flipped bit in the optimizer": ("training_state/rank00000-of-00001.safetensors", flip_a_byte, "is not what"),
    "a truncated state": ("training_state/run_state.pt", cut_short, r"has [\d,]+ bytes of"),
    "a missing tokenizer": ("spiece.model", Path.unlink, "is missing"),
    "a torn record": (HASHES, cut_short, "files.json is torn"),
    "no record": (HASHES, Path.unlink, "files.json is missing"),
}


def copied(whole: TrainConfig, tmp_path: Path) -> TrainConfig:
    shutil.copytree(whole.save_folder, tmp_path / "copy", symlinks=True)
    return whole.model_copy(update={"save_folder": str(tmp_path / "copy")})


@pytest.mark.parametrize("kind", DAMAGES)
def test_the_one_before_is_used_with_one_warning_and_the_run_ends_the_same(
    whole: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    config = copied(whole, tmp_path)
    file, harm, reason = DAMAGES[kind]
    newest = Path(config.save_folder) / "ba000004"
    harm(newest / file)
    with caplog.at_level(logging.INFO, "codelm"):
        train(config)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert f"{newest} is torn (" in warnings[0]
    assert "it is now torn-ba000004, and the one before it is used" in warnings[0]
    assert damage(newest) is None
    assert (newest.parent / "torn-ba000004").is_dir()
    one, other = (load_file(Path(c.save_folder) / "ba000004" / "model.safetensors") for c in (whole, config))
    assert all(torch.equal(one[name], other[name]) for name in one)
    problem = damage(newest.parent / "torn-ba000004")
    assert problem is not None
    assert re.search(reason, problem)


def test_a_run_of_which_nothing_is_whole_stops_once_and_starts_afresh_when_told_again(
    whole: TrainConfig, tmp_path: Path
) -> None:
    config = copied(whole, tmp_path)
    for name in ("ba000002", "ba000004"):
        flip_a_byte(Path(config.save_folder) / name / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"none of the checkpoints in .* was whole: they are set aside"):
        train(config)
    train(config.model_copy(update={"max_duration": "2ba"}))
    names = sorted(path.name for path in Path(config.save_folder).iterdir())
    assert [name for name in names if "ba0" in name] == ["ba000002", "torn-ba000002", "torn-ba000004"]


def test_a_dry_run_says_which_one_it_would_be_and_changes_nothing(whole: TrainConfig, tmp_path: Path) -> None:
    config = copied(whole, tmp_path)
    cut_short(Path(config.save_folder) / "ba000004" / "model.safetensors")
    before = sorted(path.name for path in Path(config.save_folder).iterdir())
    assert "would resume from" in dry_run(config)[-1]
    assert "ba000002" in dry_run(config)[-1]
    assert sorted(path.name for path in Path(config.save_folder).iterdir()) == before


def test_every_file_of_a_checkpoint_is_in_its_record(whole: TrainConfig) -> None:
    checkpoint = Path(whole.save_folder) / "ba000004"
    files = {str(path.relative_to(checkpoint)) for path in checkpoint.rglob("*") if path.is_file()}
    assert set(json.loads((checkpoint / HASHES).read_text())["files"]) == files - {HASHES}


def test_a_checkpoint_that_cannot_be_read_is_not_torn(whole: TrainConfig, tmp_path: Path) -> None:
    """A disk that fails for a moment, or permissions of another user, say nothing of what is in a file."""
    config = copied(whole, tmp_path)
    folder = Path(config.save_folder)
    state, record = folder / "ba000004" / "training_state" / "run_state.pt", folder / "ba000004" / HASHES
    content, hashes = state.read_bytes(), record.read_text()
    # Linux answers with EIO to whoever reads the first page of his own memory.
    state.unlink()
    state.symlink_to("/proc/self/mem")
    files = json.loads(hashes)
    files["files"]["training_state/run_state.pt"][0] = 0
    record.write_text(json.dumps(files))
    with pytest.raises(EnvironmentFailure, match=rf"{state} cannot be read \(Input/output error\); mend that"):
        train(config)
    assert sorted(path.name for path in folder.glob("*ba0*")) == ["ba000002", "ba000004"]
    state.unlink()
    state.write_bytes(content)
    record.write_text(hashes)
    assert damage(folder / "ba000004") is None


def test_a_save_folder_copied_with_its_links_followed_goes_on(
    whole: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(whole.save_folder, tmp_path / "copy", symlinks=False)
    config = whole.model_copy(update={"save_folder": str(tmp_path / "copy"), "max_duration": "6ba"})
    last = train(config)
    latest = tmp_path / "copy" / "latest"
    assert latest.is_symlink()
    assert latest.resolve() == last.resolve()
    assert (tmp_path / "copy" / "copied-latest" / "model.safetensors").is_file()
    assert f"{latest} is a folder, as copying makes it that follows links: it is now copied-latest" in caplog.text


@pytest.mark.parametrize("line", [b"\xff\xfe\n", b"5\n", b'{"batch": "3"}\n', b'{"batch": 3'])
def test_odd_lines_among_the_metrics_do_not_stop_a_run(line: bytes, whole: TrainConfig, tmp_path: Path) -> None:
    config = copied(whole, tmp_path).model_copy(update={"max_duration": "5ba"})
    metrics = Path(config.save_folder) / "metrics.jsonl"
    metrics.write_bytes(line + metrics.read_bytes())
    train(config)
    batches = [json.loads(line)["batch"] for line in metrics.read_text().splitlines()]
    assert batches == sorted(batches)
    assert batches[-1] == 5


def test_what_is_other_than_before_is_said_where_a_run_goes_on(
    whole: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = copied(whole, tmp_path)
    optimizer = config.optimizer.model_copy(update={"betas": [0.5, 0.6]})
    other = {"max_duration": "5ba", "optimizer": optimizer, "load_path": str(Path(whole.save_folder) / "ba000002")}
    with caplog.at_level(logging.INFO, "codelm"):
        train(config.model_copy(update=other))
    (said,) = (record.getMessage() for record in caplog.records if "other settings" in record.getMessage())
    assert said.startswith("other settings than ba000004 was saved with: ")
    assert "max_duration was 4ba and is now 5ba" in said
    assert "optimizer.betas was [0.9, 0.95] and is now [0.5, 0.6]" in said
    assert "load_path has no say where a run goes on: the weights are those of" in caplog.text
