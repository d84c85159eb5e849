"""SIGKILL at any moment, of all or of one rank, also while saving: the run ends with an undisturbed one's weights."""

import random
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codelm.train.checkpoints.hashes import damage

pytestmark = pytest.mark.world_size(2)


def weights(save_folder: Path) -> dict[str, torch.Tensor]:
    return load_file(save_folder / "latest" / "model.safetensors")


def survives(launch: Any, settings: dict[str, Any], tmp_path: Path, kills: int, chance: random.Random) -> None:
    """Kill a run that saves after each batch so many times; one that ends in between begins anew in another folder."""
    whole = {**settings, "save_folder": str(tmp_path / "whole"), "save_interval": "40ba"}
    began = time.monotonic()
    assert launch(whole).code == 0
    long = time.monotonic() - began
    left, ended = kills, 0
    while left or ended == 0:
        folder = tmp_path / f"killed{ended}"
        launch.begin({**settings, "save_folder": str(folder)})
        pids = launch.pids()
        if left:
            # Half of the moments while it starts and resumes, half while it trains and saves.
            time.sleep(chance.uniform(0, long))
            launch.kill(pids if chance.random() < 0.5 else [chance.choice(pids[1:])])
            left -= 1
        if launch.end().code == 0:
            assert all(torch.equal(a, b) for a, b in zip(*map(by_name, (folder, tmp_path / "whole")), strict=True))
            assert all(damage(path) is None for path in folder.glob("ba*"))
            assert not list(folder.glob("torn-*"))
            ended += 1


def by_name(save_folder: Path) -> list[torch.Tensor]:
    return [tensor for _, tensor in sorted(weights(save_folder).items())]


@pytest.fixture
def settings(small: dict[str, Any]) -> dict[str, Any]:
    return {**small, "max_duration": "40ba", "save_interval": "1ba"}


def test_three_kills(launch: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    survives(launch, settings, tmp_path, 3, random.Random(3))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["ddp", "fsdp2 in the background"])
def test_thirty_kills(launch: Any, settings: dict[str, Any], tmp_path: Path, kind: str) -> None:
    changes = {} if kind == "ddp" else {"fsdp_config": {}, "save_async": True}
    survives(launch, {**settings, **changes}, tmp_path, 30, random.Random(30))
