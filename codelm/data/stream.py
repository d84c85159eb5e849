"""The training stream: a map-style dataset over a mixture of shards whose order is computed, never remembered.

The sample at a global position is a pure function of (seed, mixture, manifest, global batch size), whatever the
number of ranks and workers; resuming means starting at another position. Composer saves and restores the dataset
through `state_dict(num_samples, from_beginning)` and `load_state_dict(obj)`.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from codelm.data.mixture import Schedule
from codelm.data.permutation import mix_key, permute
from codelm.errors import CheckpointError

Batch = dict[str, torch.Tensor]
IGNORED = -100


class SampleReader(Protocol):
    """Random access to the samples of one language, each a row of token ids of shape (max_seq_len,)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class StreamIdentity:
    """What the order depends on; a run may only resume on a stream of the same identity."""

    seed: int
    global_train_batch_size: int
    max_seq_len: int
    manifest_hash: str
    split: str
    mixture: dict[str, float]

    def differences(self, other: dict[str, Any]) -> list[str]:
        """One phrase for each field in which the `other` identity, from a checkpoint, differs from this one."""
        mine = dataclasses.asdict(self)
        return [f"{key} was {other.get(key)!r} and is now {mine[key]!r}" for key in mine if other.get(key) != mine[key]]


class MixtureDataset(Dataset[torch.Tensor]):
    """The endless stream of training samples; an index is a global position and an epoch a number of them."""

    def __init__(self, readers: Mapping[str, SampleReader], schedule: Schedule, identity: StreamIdentity) -> None:
        self.readers = readers
        self.schedule = schedule
        self.identity = identity
        self.keys = {language: mix_key(identity.seed, i) for i, language in enumerate(sorted(readers))}
        available = sum(len(readers[language]) for language in schedule.languages)
        batch = identity.global_train_batch_size
        self.samples_per_epoch = max(available // batch, 1) * batch
        self.resume_at = 0

    def __len__(self) -> int:
        return self.samples_per_epoch

    def locate(self, position: int) -> tuple[str, int]:
        """The language and the sample number, within its shards, at a global position (0, 1, 2, … over all epochs)."""
        language, drawn = self.schedule.draw(position)
        size = len(self.readers[language])
        turn, index = divmod(drawn, size)
        return language, permute(index, size, mix_key(self.keys[language], turn))

    def __getitem__(self, position: int) -> torch.Tensor:
        """The token ids at a global position: int64 of shape (max_seq_len,)."""
        language, index = self.locate(position)
        return torch.from_numpy(self.readers[language][index].astype(np.int64))

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """For Composer's checkpoint: how many samples of the present epoch are done, and of which stream."""
        done = num_samples if from_beginning else self.resume_at + num_samples
        return {"num_samples": done, "identity": dataclasses.asdict(self.identity)}

    def load_state_dict(self, obj: dict[str, Any]) -> None:
        """Continue where the checkpoint was.

        Raises:
            CheckpointError: the checkpoint was trained on another stream; the sentence shows the difference.
        """
        differences = self.identity.differences(obj["identity"])
        if differences:
            raise CheckpointError(
                f"the checkpoint cannot continue on this data: {'; '.join(differences)};"
                " restore the former settings, or start a new run in another save_folder with load_path"
            )
        self.resume_at = obj["num_samples"]


class MixtureSampler(DistributedSampler[torch.Tensor]):
    """The global positions of one rank: in each global batch, its own consecutive share."""

    def __init__(self, dataset: MixtureDataset, rank: int, world_size: int) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=False, drop_last=True)
        self.stream = dataset

    def __len__(self) -> int:
        return self.stream.samples_per_epoch // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        size = self.stream.samples_per_epoch
        batch = self.stream.identity.global_train_batch_size
        share = batch // self.num_replicas
        # Only the epoch that was resumed starts in its middle.
        start, self.stream.resume_at = self.stream.resume_at, 0
        for first in range(self.epoch * size + start, (self.epoch + 1) * size, batch):
            yield from range(first + self.rank * share, first + (self.rank + 1) * share)


@dataclasses.dataclass(frozen=True)
class Collator:
    """Samples of packed documents → a batch for the model; EOS ends a document and belongs to it."""

    eos_id: int

    def __call__(self, samples: Sequence[torch.Tensor]) -> Batch:
        """(seq,) each → input_ids, labels and sequence_id, all int64 of shape (batch, seq).

        A document's first token is predicted from nothing within it, so its label is ignored (-100).
        """
        input_ids = torch.stack(list(samples))
        ends = input_ids == self.eos_id
        sequence_id = torch.zeros_like(input_ids)
        sequence_id[:, 1:] = ends[:, :-1].cumsum(dim=1)
        labels = input_ids.clone()
        labels[:, 1:][ends[:, :-1]] = IGNORED
        return {"input_ids": input_ids, "labels": labels, "sequence_id": sequence_id}


def train_loader(dataset: MixtureDataset, eos_id: int, rank: int, world_size: int, num_workers: int) -> DataLoader:
    """The rank's batches of global_train_batch_size / world_size samples."""
    return _loader(
        dataset,
        batch_size=dataset.identity.global_train_batch_size // world_size,
        eos_id=eos_id,
        sampler=MixtureSampler(dataset, rank, world_size),
        num_workers=num_workers,
    )


class HeldOutDataset(Dataset[torch.Tensor]):
    """The first `limit` samples of one language, in order."""

    def __init__(self, reader: SampleReader, limit: int | None) -> None:
        self.reader = reader
        self.size = len(reader) if limit is None else min(limit, len(reader))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(self.reader[index].astype(np.int64))


def eval_loader(dataset: HeldOutDataset, batch_size: int, eos_id: int, rank: int, world_size: int) -> DataLoader:
    """The rank's share of a held-out set, in order; Composer leaves out what padding to equal shares repeats."""
    sampler = DistributedSampler(dataset, num_replicas=world_size, rank=rank, shuffle=False, drop_last=False)
    return _loader(dataset, batch_size=batch_size, eos_id=eos_id, sampler=sampler, num_workers=0)


def _loader(dataset: Dataset, batch_size: int, eos_id: int, sampler: Any, num_workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=Collator(eos_id),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        # A loader without a generator of its own draws its seed from the global one: evaluation would shift training.
        generator=torch.Generator(),
    )
