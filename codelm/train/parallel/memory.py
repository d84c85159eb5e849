"""How much memory this process has, holds, and held at most: of its GPU, or of the host and its container."""

import contextlib
import ctypes
import resource
import sys
from pathlib import Path
from typing import Protocol

import psutil
import torch
from composer.utils import dist

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_CGROUP = Path("/sys/fs/cgroup")
# What evaluation, saving and the allocator's gaps need beside training.
_GPU_SHARE = 0.92
_HOST_SHARE = 0.8


class Memory(Protocol):
    """Bytes of this process."""

    def held(self) -> int: ...
    def reset_peak(self) -> None: ...
    def peak(self) -> int: ...
    def limit(self) -> int:
        """What the process may hold in all."""
        ...


class GpuMemory:
    """Of the current CUDA device."""

    def held(self) -> int:
        return torch.cuda.memory_allocated()

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated()

    def limit(self) -> int:
        free, _ = torch.cuda.mem_get_info()
        return int(_GPU_SHARE * (free + torch.cuda.memory_reserved()))


class HostMemory:
    """Resident memory; what is available is shared evenly between the ranks of this machine."""

    def held(self) -> int:
        # Without this, glibc keeps what was freed, and the next peak would hide in it.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        return psutil.Process().memory_info().rss

    def reset_peak(self) -> None:
        # Where this is not allowed, the peak of all time still shows every new one.
        with contextlib.suppress(OSError):
            _CLEAR.write_text("5")

    def peak(self) -> int:
        if _STATUS.is_file():
            line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM"))
            return int(line.split()[1]) * 1024
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

    def limit(self) -> int:
        free = min(psutil.virtual_memory().available, *_free_in_container(_CGROUP))
        return self.held() + int(_HOST_SHARE * free / dist.get_local_world_size())


def _free_in_container(root: Path) -> list[int]:
    """Bytes that the container's limit leaves, for either version of cgroups; empty without a limit."""
    found = []
    for most, current, statistics in (
        (root / "memory.max", root / "memory.current", root / "memory.stat"),
        (
            root / "memory" / "memory.limit_in_bytes",
            root / "memory" / "memory.usage_in_bytes",
            root / "memory" / "memory.stat",
        ),
    ):
        try:
            limit, used = int(most.read_text()), int(current.read_text())
            cached = dict(line.split() for line in statistics.read_text().splitlines())
        except (OSError, ValueError):  # No such version, or the limit is "max".
            continue
        # The kernel gives up file pages that nobody reads before it refuses memory.
        found.append(max(0, limit - used + int(cached.get("inactive_file", 0))))
    return found
