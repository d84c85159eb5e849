"""What two ranks do: `composer -n 2 code_eval_ranks.py SETTINGS.json OUT.json`; see test_code_eval.py.

Trains under FSDP2 with dropout, so that random numbers matter, with and without evaluations; rank 0 writes the metrics.
At each evaluation the weights are also gathered in bf16, as on a GPU; in the run `short`, the second rank has no room
for the first one.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist

from codelm.config.train import TrainConfig
from codelm.eval.benchmarks import humaneval
from codelm.eval.problem import Problem
from codelm.train import whole_model
from codelm.train.callbacks import code_eval
from codelm.train.checkpoints.weights import is_sharded, unwrapped
from codelm.train.run import train


def one_problem(_: Any) -> list[Problem]:
    return humaneval.load_problems(1)


def check_gathered(trained: Any, shell: Any, device: torch.device) -> Any:
    """`whole_model`, once it is known that each rank can have the present weights in bf16."""
    model = unwrapped(trained).model
    assert is_sharded(model)
    gathered = whole_model._gathered(model, torch.bfloat16)
    for name, tensor in model.state_dict().items():
        assert gathered[name].dtype == torch.bfloat16
        assert torch.equal(gathered[name], tensor.full_tensor().to(torch.bfloat16)), name
    return whole_model.whole_model(trained, shell, device)


def short_of_memory(whole: Any) -> Any:
    """What makes a tensor whole, where the second rank finds no room for the third one at first."""
    count = itertools.count(1)

    def gather(*tensor: Any) -> Any:
        if next(count) == 3 and dist.get_global_rank() == 1:
            raise torch.OutOfMemoryError("no room for the third")
        return whole(*tensor)

    return gather


def main() -> None:
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    found = {}
    for name, changes in settings.pop("runs").items():
        folder = Path(settings["save_folder"]) / name
        code_eval.whole_model = check_gathered if name == "with" else whole_model.whole_model
        if name == "short":
            whole_model._whole = short_of_memory(whole_model._whole)
        train(TrainConfig.model_validate({**settings, **changes, "save_folder": str(folder)}))
        dist.barrier()
        found[name] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    if dist.get_global_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
