"""The processes that a launcher (`composer -n 2 eval/main.py …`) has started for one evaluation."""

import atexit
import os
from datetime import timedelta

import torch.distributed as dist

from codelm.eval.ranks import Ranks

# The slowest rank's share of a large benchmark, and the first rank's hashing of the weights.
_PATIENCE = timedelta(hours=12)


def join_processes() -> Ranks:
    """This process's place among them; alone where no launcher is."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks()
    # They share folders, not tensors: gloo is enough on any device.
    dist.init_process_group("gloo", timeout=_PATIENCE)
    atexit.register(dist.destroy_process_group)

    def agree(failure: str | None) -> str | None:
        said: list[str | None] = [None] * size
        dist.all_gather_object(said, failure)
        return next((one for one in said if one is not None), None)

    return Ranks(dist.get_rank(), size, agree)
