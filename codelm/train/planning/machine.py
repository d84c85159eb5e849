"""What is planned for: GPUs of the table, or the processor at hand, which is measured."""

import time
from dataclasses import dataclass

import psutil
import torch

from codelm.errors import ConfigError
from codelm.train.hardware import ACCELERATORS, GB, Accelerator

_SIDE = 768
_COPIED = 64 * 2**20
CPU = "cpu"


@dataclass(frozen=True)
class Machine:
    """Some devices of a kind, and how they are connected."""

    device: Accelerator
    count: int
    per_node: int
    network: float
    """Bytes/s that a device sends to those of other nodes."""
    overhead: float
    """Bytes of a device that are gone before training begins: CUDA's context and NCCL's buffers, or the process."""
    slack: float
    """Bytes that the allocator holds for each byte of activations that is computed."""
    kernel_seconds: float
    """The least that a kernel takes, its launch included."""

    @property
    def is_cpu(self) -> bool:
        return self.device.name == CPU

    @property
    def nodes(self) -> int:
        return -(-self.count // self.per_node)

    def sends(self, ranks: int) -> float:
        """Bytes/s that a collective over so many ranks moves.

        Beyond a node, rings run through all adapters of the node side by side, each with its part of the data.
        """
        return self.device.link if ranks <= self.per_node else min(self.device.link, self.network * self.per_node)


def gpus(name: str, count: int, per_node: int, network: float, price: float | None) -> Machine:
    """GPUs of the table.

    Args:
        network: bytes/s between nodes, for each GPU.
        price: US dollars an hour for each GPU; None takes the table's.

    Raises:
        ConfigError: there is no such GPU.
    """
    if name not in ACCELERATORS:
        raise ConfigError(f"gpu: there is no `{name}` in the table; it has cpu, {', '.join(ACCELERATORS)}")
    device = ACCELERATORS[name]
    if price is not None:
        device = Accelerator(**{**device.__dict__, "price": price})
    # The context of a CUDA process, and NCCL's buffers where there are peers.
    overhead = 0.6 * GB + (1.0 * GB if count > 1 else 0.0)
    return Machine(device, count, per_node, network, overhead, slack=1.05, kernel_seconds=6e-6)


def processor(process_bytes: float, price: float | None) -> Machine:
    """This machine's processor for one rank, its speed measured in a tenth of a second.

    Args:
        process_bytes: what a process holds that has imported all that training imports.
    """
    flops, bandwidth = _products(), _copies()
    device = Accelerator(
        CPU, flops, psutil.virtual_memory().total, bandwidth, bandwidth, 0.0, price or 0.0, matmul=0.85, attention=0.35
    )
    # glibc's heap keeps what lies between blocks in use; measured on runs of several shapes (tests/train/planning).
    return Machine(device, 1, 1, bandwidth, process_bytes + 0.01 * GB, slack=1.7, kernel_seconds=8e-6)


def _products() -> float:
    """FLOP/s of large fp32 matrix products on this process's threads."""
    a, b = torch.ones(_SIDE, _SIDE), torch.ones(_SIDE, _SIDE)
    return 2 * _SIDE**3 / min(_timed(lambda: a @ b) for _ in range(3))


def _copies() -> float:
    """Bytes/s read and written."""
    source, target = torch.ones(_COPIED // 4), torch.zeros(_COPIED // 4)
    return 2 * _COPIED / min(_timed(lambda: target.copy_(source)) for _ in range(3))


def _timed(work: object) -> float:
    assert callable(work)
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
