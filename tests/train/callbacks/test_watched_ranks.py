"""Two ranks see what one sees: norms over shards, losses by language, samples, exports; under DDP and FSDP2."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.world_size(2)

Rows = list[dict[str, Any]]
NORMS = ["l2_norm/grad/global", "l2_norm/param/global", "l2_norm/update/global"]


@pytest.fixture(scope="module")
def settings(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """No dropout, and an optimizer whose step grows with the gradient, so that a wrong scale shows."""
    return {
        "run_name": "watched",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 36, "n_heads": 4, "n_layers": 3},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 2}},
        "optimizer": {"name": "adamw", "lr": 1e-3, "eps": 1e-2},
        "max_duration": "4ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 1,
        "device": "cpu",
        "callbacks": {
            "optimizer_monitor": {"interval": "2ba"},
            "language_monitor": {"interval": "2ba"},
            "sample_completions": {"interval": "4ba", "prompts": ["def f("], "max_new_tokens": 4},
            "hf_checkpointer": {"save_interval": "4ba"},
        },
        "save_folder": str(tmp_path_factory.mktemp("watched")),
        "save_interval": "4ba",
    }


@pytest.fixture(scope="module")
def found(launch: Any, settings: dict[str, Any]) -> dict[str, Rows]:
    """The metrics of one rank, and of two in both ways."""
    rows = {}
    for kind, (ranks, changes) in {"one": (1, {}), "ddp": (2, {}), "fsdp2": (2, {"fsdp_config": {}})}.items():
        folder = Path(settings["save_folder"]) / kind
        ended = launch({**settings, **changes, "save_folder": str(folder)}, ranks=ranks)
        assert ended.code == 0, ended.output[-3000:]
        rows[kind] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return rows


def column(rows: Rows, name: str) -> dict[int, float]:
    return {row["batch"]: row[name] for row in rows if name in row}


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
@pytest.mark.parametrize("name", [*NORMS, "loss/train/python", "loss/train/c", "mixture/python/share"])
def test_two_ranks_log_what_one_logs(found: dict[str, Rows], kind: str, name: str) -> None:
    one, two = column(found["one"], name), column(found[kind], name)
    assert set(one) == set(two) == ({1, 2, 3, 4} if "grad" in name else {2, 4})
    for batch, value in one.items():
        assert two[batch] == pytest.approx(value, rel=2e-4), batch


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_samples_and_exports_hold_all_weights(found: dict[str, Rows], settings: dict[str, Any], kind: str) -> None:
    folder = Path(settings["save_folder"]) / kind
    exported = load_file(folder / "huggingface" / "ba000004" / "model.safetensors")
    whole = load_file(folder / "ba000004" / "model.safetensors")
    assert exported.keys() == whole.keys()
    assert all(torch.equal(exported[name], whole[name]) for name in whole)
    (sample,) = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert sample["prompt"] == "def f("
    assert (folder / "report.html").is_file()
