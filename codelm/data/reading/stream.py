"""The training stream: a map-style dataset over a mixture of shards whose order is computed, never remembered.

The sample at a global position is a pure function of the stream's identity (seed, mixture, manifests, global batch
size …), whatever the number of ranks and workers; resuming means starting at another position. Composer saves and
restores the dataset through `state_dict(num_samples, from_beginning)` and `load_state_dict(obj)`.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from codelm.data.reading.gaps import Gaps
from codelm.data.reading.order import Located, Order
from codelm.data.reading.shard_reader import Rows
from codelm.errors import CheckpointError, CodelmError

Batch = dict[str, torch.Tensor]
IGNORED = -100
ORDER_VERSION = 2
"""Raised when the same settings would give another order: a run goes on only in the order that it began with."""


class SampleReader(Protocol):
    """Random access to the samples of one stream; see `ShardReader`."""

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int] | np.ndarray, /) -> Rows: ...

    def prepare(self, now: Sequence[int], soon: Sequence[int], /) -> None: ...


class RowTransform(Protocol):
    """A pure function of a row of token ids, shape (seq,), and its global position, such as `fim.Fim`."""

    def apply(self, row: np.ndarray, position: int, /) -> tuple[np.ndarray, Any]: ...


@dataclasses.dataclass(frozen=True)
class StreamIdentity:
    """What the samples and their order depend on; a run may only resume on a stream of the same identity."""

    seed: int
    global_train_batch_size: int
    max_seq_len: int
    manifest_hash: str
    split: str
    mixture: dict[str, float]
    """Shares of all streams, those of the replayed corpus included."""
    replay: dict[str, Any] | None = None
    """`manifest_hash` and `split` of the replayed corpus."""
    streams: dict[str, dict[str, int]] = dataclasses.field(default_factory=dict)
    """What the configuration says of single streams, but for their shares."""
    on_exhausted: str = "refill"
    shuffle_window: int | None = None
    fim: dict[str, float] | None = None
    order: int = ORDER_VERSION

    def differences(self, other: dict[str, Any]) -> list[str]:
        """One phrase for each field in which the `other` identity, from a checkpoint, differs from this one."""
        mine = dataclasses.asdict(self)
        return [_difference(key, other.get(key), mine[key]) for key in mine if other.get(key) != mine[key]]

    def check_continues(self, other: dict[str, Any]) -> None:
        """Refuse to continue a run whose stream was the `other`.

        Raises:
            CheckpointError: the sentence shows the difference.
        """
        differences = self.differences(other)
        if differences:
            raise CheckpointError(
                f"the checkpoint cannot continue on this data: {'; '.join(differences)};"
                " restore the former settings, or start a new run in another save_folder with load_path"
            )


def _difference(key: str, was: Any, now: Any) -> str:
    """Of two mixtures the shares that differ, as far as anyone would write them."""
    if key == "mixture" and isinstance(was, dict):
        was, now = (
            {stream: round(share, 6) for stream, share in this.items() if that.get(stream) != share}
            for this, that in ((was, now), (now, was))
        )
    return f"{key} was {was!r} and is now {now!r}"


class MixtureDataset(Dataset[torch.Tensor]):
    """The endless stream of training samples; an index is a global position and an epoch a number of them.

    Args:
        readers: by stream, those of the order's schedule.
        transform: applied to every sample without a loss mask.
    """

    def __init__(
        self,
        readers: Mapping[str, SampleReader],
        order: Order,
        identity: StreamIdentity,
        transform: RowTransform | None = None,
    ) -> None:
        self.readers = [readers[stream] for stream in order.schedule.streams]
        self.order = order
        self.identity = identity
        self.transform = transform
        self.resume_at = 0
        self.gaps = Gaps()

    def __len__(self) -> int:
        return self.order.samples_per_epoch

    def locate(self, position: int) -> tuple[str, int]:
        """The stream and the sample number, within its shards, at a global position (0, 1, 2, … over all epochs)."""
        found = self.order.locate(np.array([position]))
        return self.order.schedule.streams[found.streams[0]], int(found.samples[0])

    def __getitem__(self, position: int) -> torch.Tensor:
        """The sample at a global position: int64 of shape (max_seq_len,), or as `Collator` describes."""
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[torch.Tensor]:
        """The samples at global positions, read stream by stream; torch's loader calls it for a whole batch."""
        found = self.order.locate(np.array(positions, np.int64))
        samples: list[torch.Tensor] = [torch.empty(0)] * len(positions)
        for number in np.unique(found.streams).tolist():
            mine = np.flatnonzero(found.streams == number)
            places = mine.tolist()
            self._look_ahead(number, found, mine)
            rows = self.readers[number].read(found.samples[mine])
            for place, sample in zip(places, self._transformed(rows, [positions[i] for i in places]), strict=True):
                samples[place] = sample
        return samples

    def _transformed(self, rows: Rows, positions: Sequence[int]) -> torch.Tensor:
        samples = tensors(rows)
        if self.transform is not None and rows.loss_mask is None:
            for row, position in enumerate(positions):
                samples[row] = torch.from_numpy(self.transform.apply(rows.tokens[row], position)[0].astype(np.int64))
        return samples

    def _look_ahead(self, number: int, found: Located, mine: np.ndarray) -> None:
        """Tell a stream's reader which shards this batch and the next ones are in."""
        ordered = mine[np.lexsort((found.indices[mine], found.turns[mine]))]
        first, last = (
            self.order.passes[number].shards_around(int(found.turns[at]), int(found.indices[at]))
            for at in (ordered[0], ordered[-1])
        )
        # A batch may reach over from one window to the next.
        now = last[0] if first == last else [*dict.fromkeys([*first[0], *last[0]])]
        self.readers[number].prepare(now, last[1])

    def state_dict(self, num_samples: int, from_beginning: bool) -> dict[str, Any]:
        """For Composer's checkpoint: how many samples of the present epoch are done, of which stream, and its gaps."""
        done = num_samples if from_beginning else self.resume_at + num_samples
        gaps = [list(gap) for gap in self.gaps.ranges]
        return {"num_samples": done, "identity": dataclasses.asdict(self.identity), "gaps": gaps}

    def load_state_dict(self, obj: dict[str, Any]) -> None:
        """Continue where the checkpoint was; its gaps are added to those that there are.

        Raises:
            CheckpointError: the checkpoint was trained on another stream; the sentence shows the difference.
        """
        self.identity.check_continues(obj["identity"])
        self.resume_at = obj["num_samples"]
        self.gaps = Gaps.of([*self.gaps.ranges, *obj.get("gaps", [])])


class MixtureSampler(DistributedSampler[torch.Tensor]):
    """The global positions of one rank: in each global batch, its own consecutive share."""

    def __init__(self, dataset: MixtureDataset, rank: int, world_size: int) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=False, drop_last=True)
        self.stream = dataset

    def __len__(self) -> int:
        return len(self.stream) // self.num_replicas

    def __iter__(self) -> Iterator[int]:
        size = len(self.stream)
        batch = self.stream.identity.global_train_batch_size
        share = batch // self.num_replicas
        # Only the epoch that was resumed starts in its middle.
        start, self.stream.resume_at = self.stream.resume_at, 0
        for position in range(self.epoch * size + start, (self.epoch + 1) * size, batch):
            first = self.stream.gaps.stream_batch(position // batch) * batch
            yield from range(first + self.rank * share, first + (self.rank + 1) * share)


@dataclasses.dataclass(frozen=True)
class Collator:
    """Samples of packed documents → a batch for the model; EOS ends a document and belongs to it."""

    eos_id: int

    def __call__(self, samples: Sequence[torch.Tensor]) -> Batch:
        """(seq,) each → input_ids, labels and sequence_id, all int64 of shape (batch, seq).

        A sample may also be (2, seq): its second row is 1 where the loss counts the prediction of the token. A token
        after EOS is predicted from nothing within its document, so its label is ignored (-100). The EOS tokens after a
        document's own pad the row: they are one document, however many they are, and nothing of it is predicted.
        """
        input_ids = torch.stack([sample if sample.dim() == 1 else sample[0] for sample in samples])
        ends = input_ids == self.eos_id
        after_end = ends.roll(1, dims=1)
        after_end[:, 0] = False
        padding = ends & after_end
        inside_padding = padding & padding.roll(1, dims=1)
        sequence_id = (after_end & ~inside_padding).cumsum(dim=1)
        labels = input_ids.masked_fill(after_end, IGNORED)
        for row, sample in enumerate(samples):
            if sample.dim() == 2:
                labels[row].masked_fill_(sample[1] == 0, IGNORED)
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
        return tensors(self.reader.read([index]))[0]


def tensors(rows: Rows) -> torch.Tensor:
    """Rows as samples: int64 of shape (n, seq), or (n, 2, seq) with the loss mask; see `Collator`."""
    tokens = torch.from_numpy(rows.tokens.astype(np.int64))
    if rows.loss_mask is None:
        return tokens
    return torch.stack([tokens, torch.from_numpy(rows.loss_mask.astype(np.int64))], dim=1)


def eval_loader(dataset: HeldOutDataset, batch_size: int, eos_id: int, rank: int, world_size: int) -> DataLoader:
    """The rank's share of a held-out set, in order; Composer leaves out what padding to equal shares repeats."""
    sampler = DistributedSampler(dataset, num_replicas=world_size, rank=rank, shuffle=False, drop_last=False)
    return _loader(dataset, batch_size=batch_size, eos_id=eos_id, sampler=sampler, num_workers=0)


class _Loader(DataLoader):
    """torch's loader, except that an error of ours keeps its one sentence when a worker process raises it."""

    def __iter__(self) -> Any:
        try:
            yield from super().__iter__()
        except CodelmError as error:
            # torch raises it anew with the worker's traceback as its text.
            *_, sentence = str(error).rstrip().rpartition(f"{type(error).__name__}: ")
            raise type(error)(sentence) from None


def _loader(dataset: Dataset, batch_size: int, eos_id: int, sampler: Any, num_workers: int) -> DataLoader:
    return _Loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        collate_fn=Collator(eos_id),
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        # A loader without a generator of its own draws its seed from the global one: evaluation would shift training.
        generator=torch.Generator(),
    )
