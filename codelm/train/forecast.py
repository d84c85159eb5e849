"""What is said before a run begins: its configuration in a few lines, and what it will take on this machine."""

import logging
from dataclasses import replace

import torch
from composer.utils import dist

from codelm.config.train import TrainConfig
from codelm.errors import CodelmError, ConfigError
from codelm.train import composer_args
from codelm.train.build import Pieces
from codelm.train.hardware import by_product
from codelm.train.parallel.memory import HostMemory
from codelm.train.planning.machine import Machine, gpus, processor
from codelm.train.planning.plan import make_plan

log = logging.getLogger(__name__)

_NETWORK = 25e9
_FAR_TOO_MUCH = 1.5
"""Of what there is; the forecast is right within a tenth or so."""


def configuration_lines(config: TrainConfig) -> list[str]:
    """The choices that decide how a run goes; `--print-config` prints all."""
    optimizer, scheduler = config.optimizer, config.scheduler
    ranks = dist.get_world_size()
    spread = "alone" if ranks == 1 else f"on {ranks} ranks, DDP"
    if config.fsdp_config is not None and ranks > 1:
        spread = f"on {ranks} ranks, FSDP{config.fsdp_config.version} {config.fsdp_config.sharding_strategy}"
    options = [
        f"{composer_args.precision(config).value} on {composer_args.device(config)} {spread}",
        f"microbatches of {config.device_train_microbatch_size}",
        "activations recomputed" if config.activation_checkpointing is not None else "",
        "blocks compiled" if config.compile is not None else "",
    ]
    clipping = config.algorithms.gradient_clipping
    clipped = f", gradients clipped at {clipping.clipping_threshold:g}" if clipping is not None else ""
    return [
        f"run {config.run_name}, seed {config.seed}: {', '.join(filter(None, options))}",
        f"{optimizer.name}, rate {optimizer.lr:g}, {scheduler.name} with {scheduler.t_warmup} of warm-up,"
        f" weight decay {optimizer.weight_decay:g}{clipped}",
        f"checkpoints every {config.save_interval} in {config.save_folder}",
    ]


def forecast_lines(config: TrainConfig, pieces: Pieces, largest: bool = False) -> list[str]:
    """Predicted memory, speed and time; nothing where this GPU is not in the table.

    Args:
        largest: also look for the largest microbatch that fits, which takes a few seconds.

    Raises:
        ConfigError: on a processor, where too large a run takes the whole machine down, it needs far more memory than
            there is.
    """
    machine = _machine_here(config)
    if machine is None:
        return []
    try:
        plan = make_plan(config, machine, pieces.batches, pieces.tokenizer.vocab_size, search=largest)
    except (CodelmError, RuntimeError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        # A family of models that cannot be looked at without contents trains none the worse.
        log.info("memory and time are not predicted: %s: %s", type(error).__name__, str(error).split("\n")[0])
        return []
    if machine.is_cpu and plan.memory.total > _FAR_TOO_MUCH * plan.capacity:
        raise ConfigError(
            f"this run would take {plan.memory.total / 1e9:,.0f} GB of memory in each process, and there are"
            f" {plan.capacity / 1e9:,.0f}; lower device_train_microbatch_size ({plan.microbatch:,}) or say auto, use a"
            " shorter max_seq_len, or a smaller model"
        )
    where = "of this process" if machine.is_cpu else "per GPU"
    line = (
        f"predicted: {plan.memory.total / 1e9:.2f} GB {where}, {plan.tokens_per_second:,.0f} tokens/s,"
        f" {_duration(plan.seconds)} to finish"
    )
    if not plan.fits:
        line += f"; that is more than the {plan.capacity / 1e9:.0f} GB there are"
    if largest:
        line += f"; at most {plan.largest_microbatch} samples fit at once"
    return [line]


def _machine_here(config: TrainConfig) -> Machine | None:
    ranks, local = dist.get_world_size(), dist.get_local_world_size()
    if composer_args.device(config) == "cpu":
        found = processor(HostMemory().held(), None)
        # Ranks on one machine share its memory's bandwidth.
        device = replace(found.device, bandwidth=found.device.bandwidth / local, link=found.device.link / local)
        return replace(found, device=device, count=ranks, per_node=local)
    known = by_product(torch.cuda.get_device_name())
    return None if known is None else gpus(known.name, ranks, local, _NETWORK, None)


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
