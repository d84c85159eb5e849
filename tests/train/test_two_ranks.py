"""Two ranks on CPU: DDP, FSDP2 and one rank train alike; FSDP2 resumes to the bit."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from codelm.config.train import TrainConfig
from codelm.train.compiled import has_compiler
from codelm.train.run import train

ROOT = Path(__file__).parents[2]
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def settings(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """No dropout: ranks draw different masks. AdamW on tiny gradients shows a wrong scale through the clipping."""
    return {
        "run_name": "two-ranks",
        "max_seq_len": 256,
        "tokenizer": {"path": str(corpus / "tokenizer")},
        "model": {"name": "replit_code", "d_model": 32, "n_heads": 4, "n_layers": 2},
        "train_data": {"path": str(corpus), "mixture": {"python": 3.0, "c": 1.0}},
        "eval_data": {"heldout": {"path": str(corpus), "max_samples_per_language": 3}},
        "optimizer": {"name": "adamw", "lr": 1e-3, "eps": 1e-2},
        "max_duration": "8ba",
        "global_train_batch_size": 4,
        "device_train_microbatch_size": 1,
        "device": "cpu",
        "save_folder": str(tmp_path_factory.mktemp("two-ranks")),
        "save_interval": "4ba",
    }


@pytest.fixture(scope="module")
def found(launch: Any, settings: dict[str, Any]) -> dict[str, Rows]:
    return launched(launch, settings)


def launched(launch: Any, settings: dict[str, Any]) -> dict[str, Rows]:
    folder = Path(settings["save_folder"])
    folder.mkdir(exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(settings))
    launch.script(Path(__file__).with_name("two_ranks.py"), folder / "settings.json", folder / "found.json")
    return json.loads((folder / "found.json").read_text())


def losses(rows: Rows) -> list[float]:
    return [row["loss/train/total"] for row in rows if "loss/train/total" in row]


def validation(rows: Rows) -> float:
    return next(row["metrics/python/BitsPerByte"] for row in rows if "metrics/python/BitsPerByte" in row)


@pytest.mark.world_size(2)
def test_two_ranks_give_the_losses_of_one(found: dict[str, Rows], settings: dict[str, Any]) -> None:
    folder = Path(settings["save_folder"]) / "one"
    train(TrainConfig.model_validate({**settings, "save_folder": str(folder)}))
    one = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert found["world_size"] == 2
    assert len(losses(one)) == 8
    assert losses(found["ddp"]) == pytest.approx(losses(one), rel=1e-5)
    assert validation(found["ddp"]) == pytest.approx(validation(one), rel=1e-5)


@pytest.mark.world_size(2)
@pytest.mark.parametrize("kind", ["sharded", "full"])
def test_fsdp2_gives_the_losses_of_ddp(found: dict[str, Rows], kind: str) -> None:
    assert losses(found[kind]) == pytest.approx(losses(found["ddp"]), rel=1e-5)


@pytest.mark.world_size(2)
@pytest.mark.parametrize("kind", ["sharded", "full"])
def test_fsdp2_resumes_with_the_same_losses(found: dict[str, Rows], kind: str) -> None:
    assert losses(found[f"{kind}_resumed"]) == losses(found[kind])


@pytest.mark.world_size(2)
def test_one_held_out_sample_counts_once_over_two_ranks(found: dict[str, Rows], settings: dict[str, Any]) -> None:
    folder = Path(settings["save_folder"]) / "one-sample-alone"
    heldout = {"heldout": {**settings["eval_data"]["heldout"], "max_samples_per_language": 1}}
    changes = {"save_folder": str(folder), "eval_data": heldout, "max_duration": "1ba"}
    train(TrainConfig.model_validate({**settings, **changes}))
    alone = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert validation(found["one_sample"]) == pytest.approx(validation(alone), rel=1e-6)


@pytest.mark.world_size(2)
def test_fsdp2_with_dropout_resumes_with_the_same_losses(found: dict[str, Rows]) -> None:
    assert losses(found["dropout_resumed"]) == losses(found["dropout"])


@pytest.mark.slow
@pytest.mark.world_size(2)
@pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler on CPU")
def test_compiled_blocks_train_and_resume_alike_under_ddp_and_fsdp2(launch: Any, settings: dict[str, Any]) -> None:
    folder = Path(settings["save_folder"]) / "compiled"
    found = launched(launch, {**settings, "compile": {"mode": "block"}, "save_folder": str(folder)})
    for kind in ("ddp", "sharded"):
        assert losses(found[kind]) == pytest.approx(losses(found["plain"]), rel=1e-4)
        assert losses(found[f"{kind}_resumed"]) == losses(found[kind])


@pytest.mark.slow
@pytest.mark.world_size(2)
def test_torchrun_launches_ranks_as_composer_does(settings: dict[str, Any], found: dict[str, Rows]) -> None:
    folder = Path(settings["save_folder"]) / "torchrun"
    yaml = folder.with_suffix(".yaml")
    yaml.write_text(json.dumps({**settings, "save_folder": str(folder)}))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*torchrun, str(ROOT / "train" / "main.py"), str(yaml)], check=True, timeout=300)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert losses(rows) == losses(found["ddp"])
