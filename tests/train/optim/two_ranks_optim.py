"""What two ranks find, in one launch: `composer -n 2 two_ranks_optim.py SETTINGS.json OUT.json`; rank 0 writes it."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from composer.utils import dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from codelm.config.train import TrainConfig
from codelm.train.build import build_pieces
from codelm.train.composer_model import ComposerCausalLM
from codelm.train.optim import lionw
from codelm.train.optim.gradients import clip_norm, clip_value, global_norm, gradients_of
from codelm.train.optim.lionw import LionW
from codelm.train.run import train

LOSS = ComposerCausalLM.loss


class Uneven(torch.nn.Module):
    """Shapes that two ranks share unevenly, one of which leaves the second rank nothing."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        for name, shape in {"matrix": (5, 3), "norm": (4,), "one": (1,)}.items():
            self.register_parameter(name, torch.nn.Parameter(torch.randn(shape, generator=generator)))


def whole(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone() for tensor in tensors]


def same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def gradients(step: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(step)
    return [torch.randn(parameter.shape, generator=generator) for parameter in Uneven().parameters()]


def sharded(mesh: DeviceMesh) -> Uneven:
    model = Uneven()
    fully_shard(model, mesh=mesh)
    return model


def give(model: Uneven, step: int) -> None:
    for parameter, gradient in zip(model.parameters(), gradients(step), strict=True):
        sharding = (parameter.device_mesh, parameter.placements) if isinstance(parameter, DTensor) else None
        parameter.grad = gradient if sharding is None else distribute_tensor(gradient, *sharding)


def steps(mesh: DeviceMesh, as_on_gpus: bool = False) -> dict[str, Any]:
    """LionW on shards, held against the same on whole tensors.

    Args:
        as_on_gpus: the shards move by the calls for many tensors at once, two of these tensors at most.
    """
    plain, parts = Uneven(), sharded(mesh)
    optimizers = [LionW(model.parameters(), lr=1e-2, weight_decay=0.1) for model in (plain, parts)]
    host, bucket = lionw._HOST, lionw._GPU_BUCKET
    for step in range(6):
        for model, optimizer in zip((plain, parts), optimizers, strict=True):
            give(model, step)
            if as_on_gpus and model is parts:
                lionw._HOST, lionw._GPU_BUCKET = "none", 13
            optimizer.step()
            lionw._HOST, lionw._GPU_BUCKET = host, bucket
    momenta = [[state["exp_avg"] for state in optimizer.state.values()] for optimizer in optimizers]
    return {
        "weights": same(whole([*parts.parameters()]), [*plain.parameters()]),
        "momenta": same(whole(momenta[1]), momenta[0]),
        "momenta are sharded": all(isinstance(momentum, DTensor) for momentum in momenta[1]),
    }


def norms(mesh: DeviceMesh) -> dict[str, Any]:
    """Norms and clipping on shards, held against the same on whole tensors."""
    plain, parts = Uneven(), sharded(mesh)
    found: dict[str, Any] = {}
    clips: dict[str, Callable[[list[Tensor], float], None]] = {
        "norm": lambda of, norm: clip_norm(of, norm, 0.5),
        "value": lambda of, norm: clip_value(of, 0.5),
    }
    for kind, clip in clips.items():
        for model in (plain, parts):
            give(model, 9)
        theirs, mine = gradients_of(plain.parameters()), gradients_of(parts.parameters())
        measured = float(global_norm(theirs)), float(global_norm(mine))
        clip(mine, measured[1])
        reference = Uneven()
        give(reference, 9)
        if kind == "norm":
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        else:
            torch.nn.utils.clip_grad_value_(reference.parameters(), 0.5)
        close = [torch.allclose(a, b) for a, b in zip(whole(mine), gradients_of(reference.parameters()), strict=True)]
        found[f"clipped by {kind}"] = all(close)
        found[f"norms for {kind}"] = measured
    return found


def spoil(factor: float, rows: set[tuple[int, ...]], rank: int | None) -> None:
    """Multiply the training loss of batches that hold one of some rows, on one rank or all."""

    def spoiled(self: ComposerCausalLM, outputs: Any, batch: Any) -> Tensor:
        mine = rank is None or dist.get_global_rank() == rank
        hit = mine and any(tuple(row.tolist()) in rows for row in batch["input_ids"])
        return LOSS(self, outputs, batch) * (factor if hit and self.training else 1.0)

    ComposerCausalLM.loss = spoiled


def rows_of(settings: dict[str, Any], *batches: int) -> set[tuple[int, ...]]:
    config = TrainConfig.model_validate({**settings, "save_folder": "unused"})
    dataset, size = build_pieces(config, 0, 1).data.dataset, config.global_train_batch_size
    return {tuple(dataset[at].tolist()) for batch in batches for at in range(batch * size, (batch + 1) * size)}


def run(settings: dict[str, Any], folder: Path, changes: dict[str, Any]) -> dict[str, Any]:
    train(TrainConfig.model_validate({**settings, **changes, "save_folder": str(folder)}))
    dist.barrier()
    file = folder / "roll_backs.json"
    return {
        "rows": [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()],
        "roll_backs": json.loads(file.read_text()) if file.exists() else [],
    }


def main() -> None:
    settings: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text())
    root = Path(settings["save_folder"])
    dist.initialize_dist("cpu")
    meshes = {
        "fsdp": init_device_mesh("cpu", (2,)),
        "hsdp": init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard")),
    }
    found: dict[str, Any] = {
        kind: {"steps": steps(mesh), "steps as on GPUs": steps(mesh, as_on_gpus=True), **norms(mesh)}
        for kind, mesh in meshes.items()
    }
    for kind, changes in {"ddp": {}, "fsdp2": {"fsdp_config": {}}}.items():
        spoil(float("nan"), rows_of(settings, 2), rank=1)
        found[f"{kind} guard"] = run(settings, root / f"{kind}-guard", {**changes, "max_duration": "5ba"})
        spoil(3.0, rows_of(settings, 14, 15), rank=None)
        found[f"{kind} spike"] = run(settings, root / f"{kind}-spike", changes)
    if dist.get_global_rank() == 0:
        Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
