"""A disk that is full costs checkpoints and warnings, not the run; only the last checkpoint must find room."""

import json
import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.config.training.checkpoints import SaveBestSection
from codelm.errors import EnvironmentFailure
from codelm.train.checkpoints import writer
from codelm.train.checkpoints.folder import checkpoints, name_of
from codelm.train.checkpoints.hashes import damage, write_hashes
from codelm.train.checkpoints.policy import Policy
from codelm.train.checkpoints.retention import Retention
from codelm.train.run import train


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer.write_together, "__defaults__", ((0.01,),))


def config_of(tiny: dict[str, Any], folder: Path, **changes: Any) -> TrainConfig:
    keep = {"save_num_checkpoints_to_keep": -1, "save_interval": "1ba", "max_duration": "20ba"}
    return TrainConfig.model_validate({**tiny, **keep, "save_folder": str(folder), **changes})


@pytest.mark.parametrize("in_background", [False, True], ids=["plain", "save_async"])
def test_the_run_goes_on_to_its_end_and_goes_on_from_there_when_there_is_room(
    tiny: dict[str, Any], small_disk: Path, caplog: pytest.LogCaptureFixture, in_background: bool
) -> None:
    with pytest.raises(EnvironmentFailure, match=r"at its end, but .*ba000020 could not be saved \(the disk is full"):
        train(config_of(tiny, small_disk, save_async=in_background))
    assert "could not be saved (the disk is full" in caplog.text
    assert "trying again in 0.01 s" in caplog.text
    assert "was not saved (the disk is full" in caplog.text
    assert "training goes on" in caplog.text
    assert not list(small_disk.glob(".tmp*"))
    whole = sorted(small_disk.glob("ba*"))
    assert 0 < len(whole) < 20
    assert all(damage(checkpoint) is None for checkpoint in whole)
    for folder in whole[:-1]:
        shutil.rmtree(folder)
    final = train(config_of(tiny, small_disk, save_interval="20ba"))
    assert final.name == "ba000020"
    assert load_file(final / "model.safetensors")


class WhenWarned(logging.Handler):
    """Does something as soon as a second attempt is announced."""

    def __init__(self, do: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self.do = do

    def emit(self, record: logging.LogRecord) -> None:
        if "trying again" in record.getMessage():
            self.do()


def test_room_that_is_made_in_time_is_used(tiny: dict[str, Any], small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * 2_900_000)
    handler = WhenWarned(filler.unlink)
    logging.getLogger("codelm").addHandler(handler)
    try:
        final = train(config_of(tiny, small_disk, max_duration="2ba", save_interval="2ba"))
    finally:
        logging.getLogger("codelm").removeHandler(handler)
    assert not filler.exists()
    assert damage(final) is None


@pytest.mark.parametrize("in_background", [False, True], ids=["plain", "save_async"])
def test_a_disk_that_holds_as_many_as_are_kept_takes_the_next_one(
    tiny: dict[str, Any], whole: TrainConfig, small_disk: Path, caplog: pytest.LogCaptureFixture, in_background: bool
) -> None:
    """The rest of the disk is filled, so that it has room for two checkpoints and a half."""
    sizes = [file.stat().st_size for file in (Path(whole.save_folder) / "ba000004").rglob("*") if file.is_file()]
    (small_disk / "filler").write_bytes(b"x" * int(3 * 2**20 - 2.5 * sum(sizes)))
    final = train(
        config_of(tiny, small_disk, save_num_checkpoints_to_keep=2, max_duration="6ba", save_async=in_background)
    )
    assert "the disk is full: " in caplog.text
    assert "ba000001 is removed before ba000003 is written" in caplog.text
    assert "was not saved" not in caplog.text
    assert [path.name for path in checkpoints(small_disk)] == ["ba000005", "ba000006"]
    assert final.name == "ba000006"
    assert all(damage(checkpoint) is None for checkpoint in checkpoints(small_disk))


def test_the_newest_good_one_and_the_best_do_not_make_room(tmp_path: Path, whole: TrainConfig) -> None:
    policy = Policy(newest=1, best=SaveBestSection(metric="loss"))
    retention = Retention(tmp_path, policy, None)
    target = tmp_path / "ba000009"
    assert not retention.make_room(target)
    for batch, loss in {2: 1.0, 4: 2.0, 6: 3.0, 8: 4.0}.items():
        copy = shutil.copytree(Path(whole.save_folder) / "ba000004", tmp_path / name_of(batch))
        (copy / "run.json").write_text(json.dumps({"format": 1, "metrics": {"loss": loss}}))
        write_hashes(copy, {})
    retention.trust(5)
    assert retention.make_room(target)
    assert [path.name[-1] for path in checkpoints(tmp_path)] == ["2", "4", "8"]
    assert not retention.make_room(target)
    (tmp_path / "ba000008" / "model.safetensors").unlink()
    retention.trust(8)
    assert not retention.make_room(target)


def test_of_the_last_checkpoint_nothing_is_promised(
    tiny: dict[str, Any], small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (small_disk / "filler").write_bytes(b"x" * 2_900_000)
    with pytest.raises(EnvironmentFailure, match="at its end"):
        train(config_of(tiny, small_disk, max_duration="2ba", save_interval="2ba"))
    assert "ba000002 was not saved (the disk is full)" in caplog.text
    assert "training goes on" not in caplog.text
