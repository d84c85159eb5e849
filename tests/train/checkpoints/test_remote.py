"""Checkpoints in an object store, which memory:// and file:// stand for; a store that fails; a machine without any."""

import logging
import shutil
import uuid
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.config.training.checkpoints import SaveBestSection
from codelm.errors import CheckpointError, EnvironmentFailure
from codelm.train.checkpoints.hashes import HASHES
from codelm.train.checkpoints.policy import Policy
from codelm.train.checkpoints.remote import RemoteFolder
from codelm.train.checkpoints.upload import Uploader, upload_late
from codelm.train.run import train


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty remote folder."""
    return f"memory://{uuid.uuid4()}/run" if request.param == "memory" else f"file://{tmp_path / 'bucket'}"


def config_of(tiny: dict[str, Any], folder: Path, **changes: Any) -> TrainConfig:
    return TrainConfig.model_validate({**tiny, "save_folder": str(folder), **changes})


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return load_file(checkpoint / "model.safetensors")


def test_another_machine_goes_on_from_the_newest_whole_one_there(
    tiny: dict[str, Any], whole: TrainConfig, url: str, tmp_path: Path
) -> None:
    train(config_of(tiny, tmp_path / "first", save_remote=url, max_duration="2ba"))
    final = train(config_of(tiny, tmp_path / "second", save_remote=url))
    ours, theirs = weights(final), weights(Path(whole.save_folder) / "ba000004")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    lines = [(folder / "metrics.jsonl").read_text() for folder in (tmp_path / "second", Path(whole.save_folder))]
    assert lines[0].count('"loss/train/total"') == lines[1].count('"loss/train/total"') == 4
    assert RemoteFolder(url).whole_checkpoints() == ["ba000002", "ba000004"]


def test_what_is_written_after_the_last_upload_follows_it(
    tiny: dict[str, Any], url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    final = train(config_of(tiny, tmp_path / "run", save_remote=url))
    (final / "README.md").write_text("# a card")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as metrics:
        metrics.write('{"batch": 4, "eval/late": 1.0}\n')
    beside = ("metrics.jsonl", "report.html")
    upload_late(url, final, beside)
    files, root = RemoteFolder(url).files, RemoteFolder(url).root
    assert files.cat_file(f"{root}/{final.name}/README.md") == b"# a card"
    for name in beside:
        assert files.cat_file(f"{root}/{name}") == (tmp_path / "run" / name).read_bytes()
    upload_late("file:///proc/nowhere", final, beside)
    assert "were not uploaded to file:///proc/nowhere" in caplog.text


def test_another_runs_checkpoints_there_are_not_replaced(
    tiny: dict[str, Any], whole: TrainConfig, url: str, tmp_path: Path
) -> None:
    remote = RemoteFolder(url)
    remote.upload(Path(whole.save_folder) / "ba000004")
    with pytest.raises(CheckpointError, match=f"save_remote: {url} already holds ba000004; set autoresume=true"):
        train(config_of(tiny, tmp_path / "new", save_remote=url, autoresume=False))
    assert remote.whole_checkpoints() == ["ba000004"]


def test_what_was_uploaded_in_part_or_is_torn_is_not_taken(
    whole: TrainConfig, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote = RemoteFolder(url)
    for name in ("ba000002", "ba000004"):
        remote.upload(Path(whole.save_folder) / name)
    files: Any = remote.files
    files.pipe_file(f"{remote.root}/ba000004/model.safetensors", b"torn")
    assert remote.download_newest(tmp_path) == tmp_path / "ba000002"
    assert f"{url}/ba000004 is torn (model.safetensors has 4 bytes of" in caplog.text
    files.rm_file(f"{remote.root}/ba000002/{HASHES}")
    assert remote.whole_checkpoints() == ["ba000004"]
    with pytest.raises(CheckpointError, match=r"none of the 1 checkpoints in .* is whole"):
        remote.download_newest(tmp_path / "other")


def test_the_policy_holds_there_too_whatever_this_machine_still_has(
    whole: TrainConfig, url: str, tmp_path: Path
) -> None:
    remote = RemoteFolder(url)
    for batch, loss in ((2, 1.0), (4, 3.0), (6, 2.0)):
        folder = tmp_path / f"ba{batch:06d}"
        shutil.copytree(Path(whole.save_folder) / "ba000004", folder)
        run = (folder / "run.json").read_text().replace('"metrics": {', f'"metrics": {{"loss": {loss},', 1)
        (folder / "run.json").write_text(run)
        remote.upload(folder)
    remote.prune(Policy(newest=1, best=SaveBestSection(metric="loss")))
    assert remote.whole_checkpoints() == ["ba000002", "ba000006"]


class Failing(RemoteFolder):
    """A store that refuses some uploads."""

    failures = 2

    def upload(self, checkpoint: Path) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionResetError("connection reset by peer")
        super().upload(checkpoint)


@pytest.mark.parametrize("failures", [2, 99])
def test_a_failed_upload_is_warned_of_and_tried_again(
    whole: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture, failures: int
) -> None:
    remote = Failing(f"file://{tmp_path / 'bucket'}")
    remote.failures = failures
    uploader = Uploader(remote, Policy(newest=2), tmp_path / "absent", waits=(0.01, 0.01))
    with caplog.at_level(logging.INFO, "codelm"):
        uploader.submit(Path(whole.save_folder) / "ba000004")
        uploader.close(30)
    text = caplog.text
    assert "failed (connection reset by peer); trying again in 0.01 s" in text
    if failures == 2:
        assert remote.whole_checkpoints() == ["ba000004"]
    else:
        assert "ba000004 was not uploaded to" in text
        assert remote.whole_checkpoints() == []


def test_a_store_without_a_driver_is_said_before_anything_heavy() -> None:
    with pytest.raises(EnvironmentFailure, match="save_remote: nosuch://x/y cannot be opened"):
        RemoteFolder("nosuch://x/y")
    missing = {"gs": "gcsfs", "abfs": "adlfs"}
    for scheme, driver in missing.items():
        if driver not in fsspec.available_protocols():
            with pytest.raises(EnvironmentFailure, match=rf"pip install {driver}"):
                RemoteFolder(f"{scheme}://bucket/run")
