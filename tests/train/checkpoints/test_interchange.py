"""A checkpoint saved on 1, 2 or 4 ranks, sharded or full, goes on on 1, 2 or 4, sharded or full: the same losses.

A run is trained to its end where it began; elsewhere copies of its first half are trained on.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

HALF, WHOLE = 3, 6
KINDS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "sharded": {"fsdp_config": {}},
    "full": {"fsdp_config": {"state_dict_type": "full"}},
}
# Tiny gradients and a large eps: no sign function makes rounding large.
ADAMW = {"name": "adamw", "lr": 1e-3, "eps": 1e-2}
LIONW = {"name": "lionw", "lr": 1e-4, "weight_decay": 1e-4}
Where = tuple[str, int]


@pytest.fixture(scope="module")
def settings(corpus: Path) -> dict[str, Any]:
    """No dropout, since other numbers of ranks draw other masks."""
    return {
        "run_name": "interchange",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "optimizer": ADAMW,
        "max_duration": f"{WHOLE}ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 1,
        "device": "cpu",
        "save_interval": f"{HALF}ba",
    }


def losses(launch: Any, settings: dict[str, Any], where: Where, folder: Path) -> dict[int, float]:
    """Train, and give the loss of each batch."""
    kind, ranks = where
    ended = launch({**settings, **KINDS[kind], "save_folder": str(folder)}, ranks=ranks)
    assert ended.code == 0, ended.output[-3000:]
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["batch"]: row["loss/train/total"] for row in rows if "loss/train/total" in row}


def goes_on_the_same(
    launch: Any,
    settings: dict[str, Any],
    origin: Where,
    elsewhere: list[Where],
    tmp_path: Path,
    tolerance: float = 1e-5,
) -> None:
    stayed = losses(launch, settings, origin, tmp_path / "stayed")
    assert list(stayed) == [*range(1, WHOLE + 1)]
    for number, where in enumerate(elsewhere):
        moved = tmp_path / f"moved{number}"
        shutil.copytree(tmp_path / "stayed", moved, symlinks=True)
        shutil.rmtree(moved / f"ba{WHOLE:06d}")
        assert losses(launch, settings, where, moved) == pytest.approx(stayed, rel=tolerance), where


@pytest.mark.world_size(2)
def test_from_two_ranks_sharded_to_one(launch: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    goes_on_the_same(launch, settings, ("sharded", 2), [("ddp", 1)], tmp_path)


@pytest.mark.slow
@pytest.mark.world_size(4)
@pytest.mark.parametrize(
    ("origin", "elsewhere"),
    [
        (("ddp", 1), [("sharded", 2), ("full", 4), ("ddp", 2)]),
        (("sharded", 2), [("sharded", 1), ("sharded", 4), ("ddp", 4), ("full", 2)]),
        (("full", 2), [("ddp", 1), ("sharded", 4), ("ddp", 2)]),
        (("ddp", 2), [("sharded", 2), ("full", 4)]),
        (("sharded", 4), [("ddp", 1), ("sharded", 2), ("full", 2), ("ddp", 4)]),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_from_anywhere_to_anywhere(
    launch: Any, settings: dict[str, Any], tmp_path: Path, origin: Where, elsewhere: list[Where]
) -> None:
    goes_on_the_same(launch, settings, origin, elsewhere, tmp_path)


@pytest.mark.slow
@pytest.mark.world_size(4)
def test_with_lionw(launch: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    """Its sign function makes some rounding as large as a step."""
    there = [("ddp", 1), ("ddp", 4), ("sharded", 4)]
    goes_on_the_same(launch, {**settings, "optimizer": LIONW}, ("sharded", 2), there, tmp_path, tolerance=1e-3)
