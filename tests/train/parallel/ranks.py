"""What several ranks do in one launch: `composer -n N ranks.py SETTINGS.json RUNS.json OUT.json`.

Trains each of the named runs with plain SGD, which hides nothing, and writes for each the losses, the norms that
gradient clipping measured, digests of the first and the last weights, and each rank's microbatch. The key
`second_rank` of a run says what the second rank lacks while that is searched for.
"""

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from composer import Trainer
from composer.utils import dist
from torch.distributed.checkpoint.state_dict import StateDictOptions
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from codelm.config.train import TrainConfig
from codelm.train import run
from codelm.train.callbacks.guard import GradientGuard
from codelm.train.checkpoints import weights
from codelm.train.models import build_model
from codelm.train.parallel import fsdp, microbatch
from codelm.train.parallel.memory import HostMemory


def digest(model: torch.nn.Module) -> str:
    """Of the whole weights; every rank must call."""
    inner: Any = (model.module if isinstance(model, DistributedDataParallel) else model).model  # pyright: ignore
    found = hashlib.sha256()
    if isinstance(inner, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(inner, writeback=False):
            for _, parameter in sorted(inner.module.named_parameters()):
                found.update(parameter.detach().clone().numpy().tobytes())
        return found.hexdigest()
    for _, parameter in sorted(inner.named_parameters()):
        whole = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
        found.update(whole.detach().numpy().tobytes())
    return found.hexdigest()


@contextlib.contextmanager
def search_where_the_second_rank(lacks: str | None) -> Iterator[None]:
    """A pass takes every rank a second, whatever its size; the second rank has no memory, or is slow, or fails."""
    if lacks is None:
        yield
        return
    one_pass, limit = microbatch._one_pass, HostMemory.limit
    lacks = lacks if dist.get_global_rank() == 1 else ""

    def passing(state: Any, model: Any, batch: dict[str, torch.Tensor]) -> float:
        one_pass(state, model, batch)
        size = len(batch["input_ids"])
        if lacks == "room for four" and size == 4:
            raise torch.OutOfMemoryError("no room for four")
        return float(size**2) if lacks == "time" else 1.0

    microbatch._one_pass = passing
    if lacks == "memory":
        HostMemory.limit = lambda self: 0
    try:
        yield
    finally:
        microbatch._one_pass, HostMemory.limit = one_pass, limit


def trained(settings: dict[str, Any], folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """One run; settings that `changes` does not name stay."""
    record: dict[str, Any] = {"norms": [], "first": "", "last": "", "held": 0}
    measure, fit, build = GradientGuard._norm, Trainer.fit, run.build_optimizer

    def measuring(self: GradientGuard, *args: Any) -> Any:
        norm, clipped = measure(self, *args)
        record["norms"].append(float(norm))
        return norm, clipped

    def fitting(self: Trainer, *args: Any, **kwargs: Any) -> None:
        record["first"] = digest(self.state.model)
        record["microbatches"] = dist.all_gather_object(self.state.device_train_microbatch_size)
        record["held"] = sum(
            (p.to_local() if isinstance(p, DTensor) else p).numel() for p in self.state.model.parameters()
        )
        fit(self, *args, **kwargs)
        record["last"] = digest(self.state.model)

    def sgd(section: Any, model: torch.nn.Module, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=0.05)

    GradientGuard._norm, Trainer.fit, run.build_optimizer = measuring, fitting, sgd  # pyright: ignore
    try:
        with search_where_the_second_rank(changes.pop("second_rank", None)):
            record["checkpoint"] = str(
                run.train(TrainConfig.model_validate({**settings, **changes, "save_folder": str(folder)}))
            )
    finally:
        GradientGuard._norm, Trainer.fit, run.build_optimizer = measure, fit, build
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    record["losses"] = [row["loss/train/total"] for row in rows if "loss/train/total" in row]
    return record


def main() -> None:
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    runs: dict[str, dict[str, Any]] = json.loads(Path(sys.argv[2]).read_text())
    if any((changes.get("fsdp_config") or {}).get("version") == 1 for changes in runs.values()):
        # FSDP1 runs on CPU once Composer, which asks for the current GPU, is told of the CPU; but it can allocate
        # a model of shapes alone on GPUs only.
        torch.cuda.current_device = lambda: torch.device("cpu")  # pyright: ignore
        fsdp.check_fsdp = run.check_fsdp = lambda config, device: None
        run.build_on_ranks = build_model
        # torch crashes where it offloads FSDP1's whole state from CPU to CPU.
        weights.StateDictOptions = lambda **options: StateDictOptions(**{**options, "cpu_offload": False})
    found = {}
    for name, changes in runs.items():
        found[name] = trained(settings, Path(settings["save_folder"]) / name, changes)
        dist.barrier()
    if dist.get_global_rank() == 0:
        Path(sys.argv[3]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
