"""What two ranks do, in one launch (a launch costs many seconds): `composer -n 2 two_ranks.py SETTINGS.json OUT.json`.

Trains with DDP, with FSDP2 saving sharded and full states, and resumes each FSDP2
run from its middle, one of them with dropout, so that random numbers matter; rank 0 writes each run's losses.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist

from codelm.config.train import TrainConfig
from codelm.train.run import train


def main() -> None:
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    root = Path(settings["save_folder"])
    found: dict[str, Any] = {"world_size": int(torch.tensor(dist.get_world_size()))}
    if "compile" in settings:
        compiled_and_not(settings, root, found)
    else:
        everything(settings, root, found)
    if dist.get_global_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))


def compiled_and_not(settings: dict[str, Any], root: Path, found: dict[str, Any]) -> None:
    found["plain"] = run(settings, root / "plain", {"compile": None})
    for name, changes in {"ddp": {}, "sharded": {"fsdp_config": {}, "activation_checkpointing": True}}.items():
        found[name] = run(settings, root / name, changes)
        found[f"{name}_resumed"] = resume(settings, root / name, changes)


def everything(settings: dict[str, Any], root: Path, found: dict[str, Any]) -> None:
    for name, changes in {
        "ddp": {},
        "sharded": {"fsdp_config": {}},
        "full": {"fsdp_config": {"state_dict_type": "full"}},
    }.items():
        found[name] = run(settings, root / name, changes)
        if name != "ddp":
            found[f"{name}_resumed"] = resume(settings, root / name, changes)
    model = {**settings["model"], "resid_pdrop": 0.1}
    dropout = {"fsdp_config": {}, "model": model}
    found["dropout"] = run(settings, root / "dropout", dropout)
    found["dropout_resumed"] = resume(settings, root / "dropout", dropout)
    # The second rank has no sample of its own then.
    found["one_sample"] = run(settings, root / "one_sample", {"eval_data": one_sample(settings), "max_duration": "1ba"})


def one_sample(settings: dict[str, Any]) -> dict[str, Any]:
    return {"heldout": {**settings["eval_data"]["heldout"], "max_samples_per_language": 1}}


def run(settings: dict[str, Any], folder: Path, changes: dict[str, Any]) -> list[dict[str, Any]]:
    train(TrainConfig.model_validate({**settings, **changes, "save_folder": str(folder)}))
    dist.barrier()
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def resume(settings: dict[str, Any], folder: Path, changes: dict[str, Any]) -> list[dict[str, Any]]:
    if dist.get_global_rank() == 0:
        shutil.rmtree(folder / "ba000008")
    dist.barrier()
    return run(settings, folder, changes)


if __name__ == "__main__":
    main()
