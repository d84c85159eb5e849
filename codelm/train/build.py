"""From a validated configuration to the pieces of a run: tokenizer, data, length. Nothing here knows the Trainer."""

import math
from dataclasses import dataclass

import psutil
from torch.utils.data import DataLoader

from codelm.config.fields import parse_duration
from codelm.config.train import TrainConfig
from codelm.errors import ConfigError
from codelm.tokenizer import Tokenizer, load_tokenizer
from codelm.train.data import (
    TrainingData,
    build_eval_loaders,
    build_train_loader,
    build_training_data,
    check_passes,
    data_plan,
)
from codelm.train.optim.schedules import Schedule, schedule

# Of a token: a sample's, and where they are put together its id, label and sequence_id, each of 8.
_BATCH_BYTES = 32


@dataclass(frozen=True)
class Pieces:
    """Everything a run is made of, before a Trainer exists."""

    tokenizer: Tokenizer
    data: TrainingData
    train_loader: DataLoader
    eval_loaders: dict[str, DataLoader]
    batches: int
    """The optimizer steps of the whole run."""
    learning_rate: Schedule


def build_pieces(config: TrainConfig, rank: int, world_size: int) -> Pieces:
    """Open and check all that the configuration names, for one rank."""
    check_batch(config, world_size)
    tokenizer = load_tokenizer(config.tokenizer.path)
    data = build_training_data(config, tokenizer)
    batches = in_batches(config.max_duration, config, len(data.dataset))
    check_passes(config, data, batches)
    learning_rate = schedule(config.scheduler, batches, lambda time: in_batches(time, config, len(data.dataset)))
    return Pieces(
        tokenizer=tokenizer,
        data=data,
        train_loader=build_train_loader(config, data, tokenizer, rank, world_size),
        eval_loaders=build_eval_loaders(config, tokenizer, rank, world_size),
        batches=batches,
        learning_rate=learning_rate,
    )


def check_batch(config: TrainConfig, world_size: int) -> None:
    """Refuse a batch before anything is made of its size.

    Raises:
        ConfigError: the global batch does not divide over the ranks, or a rank's share, of which the loader makes one
            batch whatever the microbatch is, does not fit into this machine's memory.
    """
    size = config.global_train_batch_size
    if size % world_size:
        raise ConfigError(
            f"global_train_batch_size {size} does not divide over {world_size} ranks; use a multiple of {world_size}"
        )
    needed, there = size // world_size * config.max_seq_len * _BATCH_BYTES, psutil.virtual_memory().total
    if needed > there:
        raise ConfigError(
            f"global_train_batch_size {size:,}: the tokens of {size // world_size:,} samples for each rank take"
            f" {needed / 1e9:,.0f} GB alone, and this machine has {there / 1e9:,.0f}; use a smaller batch"
        )


def in_batches(duration: str, config: TrainConfig, samples_per_epoch: int) -> int:
    """A duration such as `5e9tok` in optimizer steps, rounded up."""
    value, unit = parse_duration(duration)
    samples = {
        "ba": value * config.global_train_batch_size,
        "sp": value,
        "tok": value / config.max_seq_len,
        "ep": value * samples_per_epoch,
    }[unit]
    return math.ceil(samples / config.global_train_batch_size)


def plan(config: TrainConfig, pieces: Pieces) -> list[str]:
    """What the run will do, a line each: length, batches, mixture with implied epochs."""
    tokens = pieces.batches * config.global_train_batch_size * config.max_seq_len
    return [
        f"{pieces.batches:,} batches of {config.global_train_batch_size} samples of {config.max_seq_len} tokens:"
        f" {tokens:,} tokens",
        *data_plan(config, pieces.data, pieces.batches),
    ]
