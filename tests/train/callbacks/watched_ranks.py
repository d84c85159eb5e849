"""What two ranks do, in one launch: `composer -n 2 watched_ranks.py SETTINGS.json OUT.json`.

Trains with DDP and with FSDP2, watched by every monitor, with samples and exports; rank 0 writes each run's metrics.
"""

import json
import sys
from pathlib import Path
from typing import Any

from composer.utils import dist

from codelm.config.train import TrainConfig
from codelm.train.run import train


def main() -> None:
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    found = {}
    for name, changes in {"ddp": {}, "fsdp2": {"fsdp_config": {}}}.items():
        folder = Path(settings["save_folder"]) / name
        train(TrainConfig.model_validate({**settings, **changes, "save_folder": str(folder)}))
        dist.barrier()
        found[name] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if dist.get_global_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
