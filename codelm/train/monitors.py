"""The callbacks that watch a run, from the configuration."""

from composer import Callback

from codelm.config.train import TrainConfig
from codelm.train.build import Pieces, in_batches
from codelm.train.callbacks.languages import LanguageMonitor
from codelm.train.callbacks.memory import MemoryMonitor
from codelm.train.callbacks.optimizer_monitor import OptimizerMonitor
from codelm.train.callbacks.progress import Progress
from codelm.train.callbacks.speed import SpeedMonitor
from codelm.train.flops import ModelCosts
from codelm.train.hardware import peak_flops_here


def build_monitors(config: TrainConfig, pieces: Pieces, costs: ModelCosts) -> list[Callback]:
    """Speed and what is seen of it, norms, languages, memory."""
    section, per_epoch = config.callbacks, len(pieces.data.dataset)
    peak = section.speed_monitor.gpu_flops_available or peak_flops_here()
    speed = SpeedMonitor(section.speed_monitor.window_size, costs.flops_per_token(), peak)
    found: list[Callback] = [speed, Progress(pieces.batches, speed)]
    if section.optimizer_monitor is not None:
        every = in_batches(section.optimizer_monitor.interval, config, per_epoch)
        found.append(OptimizerMonitor(every, section.optimizer_monitor.update_norm))
    if section.language_monitor is not None:
        every = in_batches(section.language_monitor.interval, config, per_epoch)
        found.append(LanguageMonitor(pieces.data.dataset, every))
    if section.memory_monitor is not None:
        found.append(MemoryMonitor(in_batches(section.memory_monitor.interval, config, per_epoch)))
    return found
