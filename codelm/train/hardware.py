"""GPUs by name: what each can do at most, and what share of that training reaches.

Peaks are the makers' data sheets for dense bfloat16 (float16 where there is no bfloat16), without sparsity. `matmul`
and `attention` are the shares of the peak that large matrix products and fused attention reach: those of the A100 are
fitted to llm-foundry's published runs on 80 GB and checked on those on 40 GB, those of the H100 fitted to its own
(docs/planning.md); the others take those of the nearest of the two and were not checked. Prices are an assumption, near
what clouds ask on demand in 2026, and are there to be overridden.
"""

import logging
import os
import platform
from dataclasses import dataclass

import psutil
import torch

log = logging.getLogger(__name__)

GB = 10**9


@dataclass(frozen=True)
class Accelerator:
    """One device."""

    name: str
    """How the command line calls it."""
    flops: float
    """bfloat16 FLOP/s, dense."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Of its memory, bytes/s."""
    link: float
    """Bytes/s that a device sends to those of its own node."""
    watts: float
    """The board's limit."""
    price: float
    """US dollars an hour."""
    matmul: float = 0.67
    attention: float = 0.33
    product: tuple[str, ...] = ()
    """Parts of the name that torch.cuda.get_device_name gives; all must be there, and the longest match wins."""


_HOPPER = {"matmul": 0.55, "attention": 0.20}
_ADA = {"matmul": 0.60, "attention": 0.33}
_BLACKWELL = {"matmul": 0.55, "attention": 0.18}
_PCIE = 25 * GB

ACCELERATORS: dict[str, Accelerator] = {
    found.name: found
    for found in (
        Accelerator("b200", 2250e12, 180 * GB, 8000 * GB, 900 * GB, 1000, 5.50, **_BLACKWELL, product=("B200",)),
        Accelerator("h200", 989.4e12, 141 * GB, 4800 * GB, 450 * GB, 700, 3.80, **_HOPPER, product=("H200",)),
        Accelerator("h200-nvl", 835.5e12, 141 * GB, 4800 * GB, 450 * GB, 600, 3.50, **_HOPPER, product=("H200", "NVL")),
        Accelerator("h100", 989.4e12, 80 * GB, 3350 * GB, 450 * GB, 700, 3.00, **_HOPPER, product=("H100",)),
        Accelerator("h100-pcie", 756e12, 80 * GB, 2000 * GB, _PCIE, 350, 2.40, **_HOPPER, product=("H100", "PCIe")),
        Accelerator("h100-nvl", 835e12, 94 * GB, 3900 * GB, 300 * GB, 400, 2.60, **_HOPPER, product=("H100", "NVL")),
        Accelerator("gh200", 989.4e12, 96 * GB, 4000 * GB, 450 * GB, 900, 3.20, **_HOPPER, product=("GH200",)),
        Accelerator("a100-40gb", 312e12, 40 * GB, 1555 * GB, 300 * GB, 400, 1.50, product=("A100", "40GB")),
        Accelerator("a100-80gb", 312e12, 80 * GB, 2039 * GB, 300 * GB, 400, 2.00, product=("A100",)),
        Accelerator("a800", 312e12, 80 * GB, 2039 * GB, 200 * GB, 400, 2.00, product=("A800",)),
        Accelerator("a40", 149.7e12, 48 * GB, 696 * GB, _PCIE, 300, 0.80, product=("A40",)),
        Accelerator("a30", 165e12, 24 * GB, 933 * GB, _PCIE, 165, 0.60, product=("A30",)),
        Accelerator("a10", 125e12, 24 * GB, 600 * GB, _PCIE, 150, 0.60, product=("A10",)),
        Accelerator("a10g", 70e12, 24 * GB, 600 * GB, _PCIE, 300, 1.00, product=("A10G",)),
        Accelerator("rtx-a6000", 154.8e12, 48 * GB, 768 * GB, _PCIE, 300, 0.70, product=("RTX A6000",)),
        Accelerator("rtx-3090", 71e12, 24 * GB, 936 * GB, _PCIE, 350, 0.30, product=("RTX 3090",)),
        Accelerator("l4", 121e12, 24 * GB, 300 * GB, _PCIE, 72, 0.70, **_ADA, product=("L4",)),
        Accelerator("l40", 181e12, 48 * GB, 864 * GB, _PCIE, 300, 0.90, **_ADA, product=("L40",)),
        Accelerator("l40s", 362e12, 48 * GB, 864 * GB, _PCIE, 350, 1.10, **_ADA, product=("L40S",)),
        Accelerator("rtx-6000-ada", 364e12, 48 * GB, 960 * GB, _PCIE, 300, 0.90, **_ADA, product=("RTX 6000 Ada",)),
        Accelerator("rtx-4090", 165.2e12, 24 * GB, 1008 * GB, _PCIE, 450, 0.50, **_ADA, product=("RTX 4090",)),
        Accelerator("rtx-5090", 209.5e12, 32 * GB, 1792 * GB, _PCIE, 575, 0.80, **_ADA, product=("RTX 5090",)),
        Accelerator("v100-16gb", 125e12, 16 * GB, 900 * GB, 150 * GB, 300, 0.80, product=("V100", "16GB")),
        Accelerator("v100-32gb", 125e12, 32 * GB, 900 * GB, 150 * GB, 300, 1.00, product=("V100",)),
        Accelerator("t4", 65e12, 16 * GB, 320 * GB, _PCIE, 70, 0.40, product=("Tesla T4",)),
        Accelerator("mi300x", 1307e12, 192 * GB, 5300 * GB, 450 * GB, 750, 3.00, **_HOPPER, product=("MI300X",)),
    )
}


def by_product(product: str) -> Accelerator | None:
    """The accelerator behind a name such as `NVIDIA A100-SXM4-40GB`; None when it is not in the table."""
    words = product.replace("-", " ").split()
    joined = f" {' '.join(words)} ".upper()
    matches = [
        found
        for found in ACCELERATORS.values()
        # A10 must not match an A100, nor L4 an L40.
        if found.product and all(f" {part.upper()} " in joined for part in found.product)
    ]
    return max(matches, key=lambda found: sum(map(len, found.product)), default=None)


def peak_flops_here() -> float | None:
    """FLOP/s of this rank's GPU; None on a CPU, and for a GPU that is not in the table, which is said once."""
    if not torch.cuda.is_available():
        return None
    product = torch.cuda.get_device_name()
    found = by_product(product)
    if found is None:
        log.warning(
            "%s is not in the table of GPUs, so MFU is left out; callbacks.speed_monitor.gpu_flops_available=… names"
            " its peak in FLOP/s",
            product,
        )
    return found and found.flops


def hardware_here() -> dict[str, str | int]:
    """What this rank runs on, for a run's record."""
    found: dict[str, str | int] = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count() or 0,
        "memory_gb": round(psutil.virtual_memory().total / GB),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found
