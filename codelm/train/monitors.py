"""The callbacks that watch a run and what they leave, from the configuration."""

from pathlib import Path

import torch
from composer import Callback

from codelm.config.train import TrainConfig
from codelm.train import composer_args
from codelm.train.build import Pieces, in_batches
from codelm.train.callbacks.early_stopper import EarlyStopper
from codelm.train.callbacks.hf_checkpointer import HfCheckpointer
from codelm.train.callbacks.languages import LanguageMonitor
from codelm.train.callbacks.memory import MemoryMonitor
from codelm.train.callbacks.optimizer_monitor import OptimizerMonitor
from codelm.train.callbacks.progress import Progress
from codelm.train.callbacks.samples import SAMPLES_FILE, SampleCompletions, prompts_of
from codelm.train.callbacks.speed import SpeedMonitor
from codelm.train.flops import ModelCosts
from codelm.train.hardware import peak_flops_here
from codelm.train.parallel.building import build_shell


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


def build_outcomes(config: TrainConfig, pieces: Pieces) -> list[Callback]:
    """Completions, exports, and the end that validation calls for."""
    section, per_epoch = config.callbacks, len(pieces.data.dataset)
    folder = Path(config.save_folder)
    found: list[Callback] = []
    if section.sample_completions is not None:
        found.append(
            SampleCompletions(
                section.sample_completions,
                composer_args.every(in_batches(section.sample_completions.interval, config, per_epoch)),
                prompts_of(section.sample_completions, pieces.tokenizer, pieces.eval_loaders),
                pieces.tokenizer,
                config.seed,
                folder / SAMPLES_FILE,
                lambda: build_shell(config, pieces.tokenizer),
            )
        )
    if section.hf_checkpointer is not None:
        export = section.hf_checkpointer
        found.append(
            HfCheckpointer(
                Path(export.save_folder or folder / "huggingface"),
                f"{in_batches(export.save_interval, config, per_epoch)}ba",
                getattr(torch, export.precision),
                pieces.tokenizer.path,
            )
        )
    if section.early_stopper is not None:
        found.append(EarlyStopper(section.early_stopper))
    return found
