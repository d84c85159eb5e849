"""What two ranks do with adapters, in one launch: `composer -n 2 lora_two_ranks.py SETTINGS.json OUT.json`.

SETTINGS holds a configuration for each kind of model; each is trained by DDP and by FSDP2 (sharded and full states),
and the FSDP2 runs are resumed from their middle. Rank 0 writes the losses.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from composer.utils import dist

from codelm.config.train import TrainConfig
from codelm.train.run import train

KINDS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "sharded": {"fsdp_config": {}},
    "full": {"fsdp_config": {"state_dict_type": "full"}, "activation_checkpointing": True},
}


def main() -> None:
    found: dict[str, Any] = {}
    for name, settings in json.loads(Path(sys.argv[1]).read_text()).items():
        few_bits = any(settings["model"].get(key) for key in ("load_in_4bit", "load_in_8bit"))
        for kind, changes in KINDS.items():
            if few_bits and kind != "ddp":
                continue
            folder = Path(settings["save_folder"]) / f"{name}-{kind}"
            found[f"{name}-{kind}"] = run(settings, folder, changes)
            if dist.get_global_rank() == 0:
                shutil.rmtree(folder / "ba000004")
            dist.barrier()
            found[f"{name}-{kind}-resumed"] = run(settings, folder, changes)
    if dist.get_global_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))


def run(settings: dict[str, Any], folder: Path, changes: dict[str, Any]) -> list[float]:
    train(TrainConfig.model_validate({**settings, **changes, "save_folder": str(folder)}))
    dist.barrier()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["loss/train/total"] for row in rows if "loss/train/total" in row]


if __name__ == "__main__":
    main()
