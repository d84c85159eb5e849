"""Two ranks: shards move as whole tensors do, and both ranks skip and go back together."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.world_size(2)
SCRIPT = Path(__file__).with_name("two_ranks_optim.py")
KINDS = ["ddp", "fsdp2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("two-ranks-optim")


@pytest.fixture(scope="module")
def found(launch: Any, corpus: Path, folder: Path) -> dict[str, Any]:
    watch = {"window_size": 10, "outlier_threshold": 8.0, "patience": 2, "skip_before": 1, "skip_after": 1}
    settings = {
        "run_name": "two-ranks",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "optimizer": {"name": "lionw", "lr": 1e-3, "weight_decay": 1e-2},
        "callbacks": {"loss_spike": {**watch, "action": "roll_back"}},
        "max_duration": "20ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 1,
        "device": "cpu",
        "save_folder": str(folder),
        "save_interval": "1ba",
        "save_num_checkpoints_to_keep": 99,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    launch.script(SCRIPT, folder / "settings.json", folder / "found.json")
    return json.loads((folder / "found.json").read_text())


@pytest.mark.parametrize("kind", ["fsdp", "hsdp"])
@pytest.mark.parametrize("path", ["steps", "steps as on GPUs"])
def test_shards_move_as_whole_tensors_do_to_the_bit(found: dict[str, Any], kind: str, path: str) -> None:
    assert found[kind][path] == {"weights": True, "momenta": True, "momenta are sharded": True}


@pytest.mark.parametrize("kind", ["fsdp", "hsdp"])
@pytest.mark.parametrize("clipping", ["norm", "value"])
def test_gradients_are_measured_and_clipped_over_all_shards(found: dict[str, Any], kind: str, clipping: str) -> None:
    whole, sharded = found[kind][f"norms for {clipping}"]
    assert sharded == pytest.approx(whole)
    assert found[kind][f"clipped by {clipping}"]


def weights(folder: Path, batch: int) -> dict[str, torch.Tensor]:
    return load_file(folder / f"ba{batch:06d}" / "model.safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_a_nan_on_the_second_rank_alone_skips_the_step_of_both(found: dict[str, Any], kind: str, folder: Path) -> None:
    counts = [
        row["nan_guard/skipped_steps"] for row in found[f"{kind} guard"]["rows"] if "nan_guard/skipped_steps" in row
    ]
    assert counts == [1.0]
    two, three, four = (weights(folder / f"{kind}-guard", batch) for batch in (2, 3, 4))
    assert all(torch.equal(two[name], three[name]) for name in two)
    assert not all(torch.equal(three[name], four[name]) for name in three)
    assert all(tensor.isfinite().all() for tensor in four.values())


@pytest.mark.parametrize("kind", KINDS)
def test_both_ranks_go_back_together(found: dict[str, Any], kind: str) -> None:
    roll_backs = found[f"{kind} spike"]["roll_backs"]
    assert [(of["first_batch"], of["checkpoint"], of["left_out"]) for of in roll_backs] == [(15, 13, [13, 17])]
    assert found[f"{kind} spike"]["rows"][-1]["batch"] == 20


def test_after_going_back_sharded_training_is_still_that_of_ddp(found: dict[str, Any]) -> None:
    losses = [
        [row["loss/train/total"] for row in found[f"{kind} spike"]["rows"] if "loss/train/total" in row]
        for kind in KINDS
    ]
    assert len(losses[0]) == 20
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_both_ranks_find_the_weights_ruined_and_go_back_to_the_good_checkpoint(
    launch: Any, found: dict[str, Any], folder: Path, kind: str
) -> None:
    assert found
    copy = folder / f"{kind}-ruined"
    shutil.copytree(folder / f"{kind}-guard", copy, symlinks=True)
    changes = {
        "fsdp_config": {} if kind == "fsdp2" else None,
        "optimizer": {"name": "lionw", "lr": 1e30},
        "scheduler": {"name": "constant_with_warmup"},
        "callbacks": {"nan_guard": {"max_skipped_steps": 2}},
        "save_folder": str(copy),
        "save_num_checkpoints_to_keep": 1,
        "save_async": True,
    }
    ended = launch({**json.loads((folder / "settings.json").read_text()), **changes})
    assert ended.code == 2
    assert ended.output.count("run the same command again") == 1
    assert "in all of the batches 7 to 9; their steps were skipped, and after the step of batch 6" in ended.output
    assert f"go on from {copy / 'ba000005'}, the last checkpoint whose weights" in ended.output
    assert [path.name for path in copy.glob("ba*")] == ["ba000005"]
    assert (copy / "latest").resolve().name == "ba000005"
