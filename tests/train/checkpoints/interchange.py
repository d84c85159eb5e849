"""What some ranks do, in one launch: `composer -n N interchange.py TASKS.json`.

A task is a run's settings and where rank 0 writes its losses: {"settings": {…}, "losses": "file.json"}.
"""

import json
import sys
from pathlib import Path

from composer.utils import dist

from codelm.config.train import TrainConfig
from codelm.train.run import train


def main() -> None:
    for task in json.loads(Path(sys.argv[1]).read_text()):
        train(TrainConfig.model_validate(task["settings"]))
        if dist.get_global_rank() == 0:
            metrics = Path(task["settings"]["save_folder"]) / "metrics.jsonl"
            rows = [json.loads(line) for line in metrics.read_text().splitlines()]
            found = {row["batch"]: row["loss/train/total"] for row in rows if "loss/train/total" in row}
            Path(task["losses"]).write_text(json.dumps(found))
        dist.barrier()


if __name__ == "__main__":
    main()
