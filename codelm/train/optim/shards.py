"""A rank's own part of a tensor that may be sharded (FSDP2's DTensor): what elementwise arithmetic needs, and quickly.

Operations on DTensors are dispatched one by one in Python, and `aten._foreach_sign_` has no rule for them at all.
"""

from torch import Tensor
from torch.distributed.tensor import DTensor


def local(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """The plain tensor of this rank, sharing memory with its DTensor; a plain tensor is its own.

    Args:
        like: a parameter; its gradient is first brought to the same placement, should it have another.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    if isinstance(like, DTensor) and tensor.placements != like.placements:
        tensor = tensor.redistribute(like.device_mesh, like.placements)
    assert isinstance(tensor, DTensor)
    return tensor.to_local()
