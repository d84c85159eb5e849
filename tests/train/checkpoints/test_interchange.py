"""A checkpoint saved on 1, 2 or 4 ranks, sharded or full, goes on on 1, 2 or 4, sharded or full: the same losses.

Each run is trained to its end once where it began; elsewhere copies of its first half are trained on.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

KINDS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "sharded": {"fsdp_config": {}},
    "full": {"fsdp_config": {"state_dict_type": "full"}},
}
OPTIMIZERS = {
    # Tiny gradients and a large eps: no sign function makes rounding large.
    "adamw": {"name": "adamw", "lr": 1e-3, "eps": 1e-2},
    "lionw": {"name": "lionw", "lr": 1e-4, "weight_decay": 1e-4},
}
TOLERANCE = {"adamw": 1e-5, "lionw": 1e-3}
HALF, WHOLE = 3, 6


@pytest.fixture(scope="module")
def settings(corpus: Path) -> dict[str, Any]:
    """No dropout, since other numbers of ranks draw other masks."""
    return {
        "run_name": "interchange",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "max_duration": f"{WHOLE}ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 1,
        "device": "cpu",
        "save_interval": f"{HALF}ba",
    }


def carry_out(tasks: list[dict[str, Any]], ranks: int, folder: Path) -> None:
    file = folder / f"tasks{ranks}.json"
    file.write_text(json.dumps(tasks))
    launcher = ["-m", "composer.cli.launcher", "-n", str(ranks)]
    result = subprocess.run(
        [sys.executable, *launcher, str(Path(__file__).with_name("interchange.py")), str(file)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]


@pytest.fixture(scope="module")
def losses(settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, float]]:
    """By the names of runs: `sharded 2 lionw` and, gone on from its half, `sharded 2 lionw > ddp 1`."""
    folder = tmp_path_factory.mktemp("interchange")
    found: dict[str, Path] = {}

    def task(name: str, kind: str, optimizer: str) -> dict[str, Any]:
        found[name] = folder / f"{len(found)}.json"
        changes = {"optimizer": OPTIMIZERS[optimizer], "save_folder": str(folder / f"run{len(found)}")}
        return {"settings": {**settings, **KINDS[kind], **changes}, "losses": str(found[name])}

    def halved(name: str, origin: str, kind: str, optimizer: str) -> dict[str, Any]:
        wanted = task(name, kind, optimizer)
        source = [*found].index(origin) + 1
        shutil.copytree(folder / f"run{source}", wanted["settings"]["save_folder"], symlinks=True)
        shutil.rmtree(Path(wanted["settings"]["save_folder"]) / f"ba{WHOLE:06d}")
        return wanted

    origins = {
        1: [("ddp", "lionw")],
        2: [("sharded", "adamw"), ("sharded", "lionw"), ("full", "adamw"), ("ddp", "adamw")],
        4: [("sharded", "adamw")],
    }
    for ranks, runs in origins.items():
        carry_out([task(f"{kind} {ranks} {name}", kind, name) for kind, name in runs], ranks, folder)
    elsewhere = {
        1: [("sharded 2 adamw", "ddp"), ("sharded 2 lionw", "ddp"), ("sharded 4 adamw", "sharded")],
        2: [
            ("ddp 1 lionw", "sharded"),
            ("sharded 4 adamw", "ddp"),
            ("full 2 adamw", "sharded"),
            ("ddp 2 adamw", "full"),
        ],
        4: [("sharded 2 adamw", "sharded"), ("sharded 2 lionw", "ddp"), ("full 2 adamw", "ddp")],
    }
    for ranks, runs in elsewhere.items():
        tasks = [halved(f"{origin} > {kind} {ranks}", origin, kind, origin.split()[-1]) for origin, kind in runs]
        carry_out(tasks, ranks, folder)
    return {name: json.loads(file.read_text()) for name, file in found.items()}


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.world_size(4)
def test_losses_are_those_of_the_run_that_stayed_where_it_was(losses: dict[str, dict[str, float]]) -> None:
    moved = [name for name in losses if ">" in name]
    assert len(moved) == 10
    for name in moved:
        origin = name.split(" > ")[0]
        assert list(losses[name]) == [str(batch) for batch in range(1, WHOLE + 1)]
        assert losses[name] == pytest.approx(losses[origin], rel=TOLERANCE[origin.split()[-1]]), name
