"""A run's needs as one record: memory, the microbatch that fits, tokens/s, days, energy, money."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from codelm.config.fields import parse_duration
from codelm.config.train import TrainConfig
from codelm.errors import CodelmError, ConfigError
from codelm.model.loss import chunk_elements
from codelm.tokenizer import load_tokenizer
from codelm.train.planning import estimate
from codelm.train.planning.estimate import Memory
from codelm.train.planning.footprint import Architecture, Conditions, Footprint, architecture, footprint
from codelm.train.planning.machine import Machine

_ASSUMED_VOCABULARY = 32768
_USABLE = 0.96
"""The share of a device's memory that a run may plan with."""


@dataclass(frozen=True)
class Plan:
    """What a run will need; bytes, seconds, dollars."""

    device: str
    devices: int
    parameters: int
    trainable: int
    tokens: float
    steps: int
    microbatch: int
    passes: int
    """Microbatches of a device in a step."""
    largest_microbatch: int | None
    """That fits; 0 when not one sample does, None when it was not looked for."""
    memory: Memory
    capacity: float
    fits: bool
    step_seconds: float
    tokens_per_second: float
    mfu: float
    seconds: float
    kwh: float | None
    dollars: float | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = dataclasses.asdict(self)
        found["memory"]["total"] = self.memory.total
        return found


def make_plan(
    config: TrainConfig,
    machine: Machine,
    batches: int | None = None,
    vocab_size: int | None = None,
    search: bool = True,
) -> Plan:
    """Predict a run.

    Args:
        batches: of the whole run; None reads max_duration, which then must not be in epochs.
        vocab_size: of the tokenizer, where it is known already.
        search: look for the largest microbatch that fits.

    Raises:
        ConfigError: the length is not known, or the batch does not divide over the devices.
    """
    notes: list[str] = []
    if config.global_train_batch_size % machine.count:
        raise ConfigError(
            f"global_train_batch_size {config.global_train_batch_size} does not divide over gpus={machine.count}; use a"
            f" multiple of {machine.count}"
        )
    model = architecture(config, vocab_size or _vocabulary(config, notes))
    each = config.global_train_batch_size // machine.count
    predict = _Predictor(config, machine, model)
    asked = config.device_train_microbatch_size
    largest = predict.largest_microbatch(each) if search or asked == "auto" else None
    if asked == "auto":
        asked = max(1, largest or 1)
        notes.append("device_train_microbatch_size is auto: the largest that fits is taken")
    microbatch = min(asked, each)
    memory = predict.memory(microbatch)
    seconds = predict.step_seconds(microbatch)
    steps = batches if batches is not None else _steps(config)
    per_step = config.global_train_batch_size * config.max_seq_len
    flops = per_step * model.costs.flops_per_token()
    hours = steps * seconds / 3600
    device = machine.device
    return Plan(
        device=device.name,
        devices=machine.count,
        parameters=model.costs.parameters,
        trainable=model.costs.trainable,
        tokens=float(steps * per_step),
        steps=steps,
        microbatch=microbatch,
        passes=max(1, -(-each // microbatch)),
        largest_microbatch=largest,
        memory=memory,
        capacity=device.memory,
        fits=memory.total <= _USABLE * device.memory,
        step_seconds=seconds,
        tokens_per_second=per_step / seconds,
        mfu=flops / seconds / (machine.count * device.flops),
        seconds=steps * seconds,
        kwh=hours * machine.count * device.watts / 1000 if device.watts else None,
        dollars=hours * machine.count * device.price if device.price else None,
        notes=tuple(notes),
    )


class _Predictor:
    """Footprints are looked at once for each microbatch."""

    def __init__(self, config: TrainConfig, machine: Machine, model: Architecture) -> None:
        self.config, self.machine, self.model = config, machine, model
        self.mixed = not machine.is_cpu and config.precision != "fp32"
        gathered = self.mixed and estimate.is_sharded(config, machine)
        self.dtype = torch.bfloat16 if gathered else torch.float32
        self.chunk = chunk_elements("cpu" if machine.is_cpu else "cuda")
        self.found: dict[int, Footprint] = {}

    def footprint(self, microbatch: int) -> Footprint:
        if microbatch not in self.found:
            self.found[microbatch] = self._look(self.config, microbatch)
        return self.found[microbatch]

    def _look(self, config: TrainConfig, microbatch: int) -> Footprint:
        there = estimate.accumulates(config, self.machine, microbatch)
        return footprint(self.model, config, microbatch, Conditions(self.dtype, self.mixed, self.chunk, there))

    def memory(self, microbatch: int) -> Memory:
        found, computed = self.footprint(microbatch), None
        if self.machine.is_cpu and self.config.activation_checkpointing is not None:
            computed = self._look(self.config.model_copy(update={"activation_checkpointing": None}), microbatch)
        return estimate.memory(
            self.model, self.config, self.machine, found, microbatch, self.mixed, computed and computed.activations
        )

    def step_seconds(self, microbatch: int) -> float:
        found = self.footprint(microbatch)
        return estimate.step_seconds(self.model, self.config, self.machine, found, microbatch, self.mixed)

    def largest_microbatch(self, most: int) -> int:
        """The most samples of a device's share of a batch that fit at once."""
        room = _USABLE * self.machine.device.memory
        low, high = 0, 1
        while high <= most and self.memory(high).total <= room:
            low, high = high, 2 * high
        high = min(high, most + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.memory(middle).total <= room else (low, middle)
        return low


def _steps(config: TrainConfig) -> int:
    value, unit = parse_duration(config.max_duration)
    if unit == "ep":
        raise ConfigError(
            f"max_duration is {config.max_duration}, and the prepared data, which tell how long an"
            " epoch is, are not at train_data.path; say max_duration=… in ba or tok"
        )
    samples = {"ba": value * config.global_train_batch_size, "sp": value, "tok": value / config.max_seq_len}[unit]
    return -(-int(samples) // config.global_train_batch_size)


def _vocabulary(config: TrainConfig, notes: list[str]) -> int:
    if Path(config.tokenizer.path).exists():
        try:
            return load_tokenizer(config.tokenizer.path).vocab_size
        except CodelmError:
            pass
    named = getattr(config.model, "vocab_size", None)
    if named is None and config.model.name == "replit_code":
        notes.append(
            f"the tokenizer is not there yet: {_ASSUMED_VOCABULARY:,} tokens are assumed (model.vocab_size says others)"
        )
    return named or _ASSUMED_VOCABULARY
