"""What two ranks do: `composer -n 2 code_eval_ranks.py SETTINGS.json OUT.json`; see test_code_eval.py.

Trains under FSDP2 with dropout, so that random numbers matter, with and without evaluations; rank 0 writes the metrics.
"""

import json
import sys
from pathlib import Path
from typing import Any

from composer.utils import dist

from codelm.config.train import TrainConfig
from codelm.eval.benchmarks import humaneval
from codelm.eval.problem import Problem
from codelm.train.run import train


def one_problem(_: Any) -> list[Problem]:
    return humaneval.load_problems(1)


def main() -> None:
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    found = {}
    for name, changes in settings.pop("runs").items():
        folder = Path(settings["save_folder"]) / name
        train(TrainConfig.model_validate({**settings, **changes, "save_folder": str(folder)}))
        dist.barrier()
        found[name] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if dist.get_global_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
