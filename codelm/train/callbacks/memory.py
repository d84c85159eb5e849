"""The most memory that any rank has held."""

import torch
from composer import Callback, Logger, State
from composer.utils import dist

from codelm.train.parallel.memory import GpuMemory, HostMemory, Memory


class MemoryMonitor(Callback):
    """Since the start, in GB of 10⁹ bytes: what torch allocated on the GPU, or the process's resident memory."""

    def __init__(self, every: int) -> None:
        self.every = every

    def batch_end(self, state: State, logger: Logger) -> None:
        if int(state.timestamp.batch) % self.every:
            return
        on_gpu = state.device.name == "gpu"
        memory: Memory = GpuMemory() if on_gpu else HostMemory()
        peak = state.device.tensor_to_device(torch.tensor(memory.peak() / 1e9, dtype=torch.float64))
        dist.all_reduce(peak, reduce_operation="MAX")
        logger.log_metrics({"memory/peak_gb": float(peak)})
