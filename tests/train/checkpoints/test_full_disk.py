"""A disk that is full costs checkpoints and warnings, not the run; only the last checkpoint must find room."""

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.errors import EnvironmentFailure
from codelm.train.checkpoints import writer
from codelm.train.checkpoints.hashes import damage
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
