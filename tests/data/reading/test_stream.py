"""The stream's order is a function of position: the same on any number of ranks and workers, and after resuming."""

import dataclasses
import itertools
import pickle
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.reading.gaps import Gaps
from codelm.data.reading.mixture import build_schedule, resolve_shares
from codelm.data.reading.order import Order, build_passes
from codelm.data.reading.shard_reader import Rows
from codelm.data.reading.stream import (
    Collator,
    HeldOutDataset,
    MixtureDataset,
    MixtureSampler,
    RowTransform,
    StreamIdentity,
    eval_loader,
    train_loader,
)
from codelm.errors import CheckpointError, DataError

EOS = 60_001


class Reader:
    """`count` samples of four tokens that tell their stream and number; every fourth has a loss mask if it should."""

    def __init__(self, stream: int, count: int, masked: bool = False) -> None:
        self.count = count
        self.stream = stream
        self.masked = masked
        self.prepared: list[tuple[list[int], list[int]]] = []

    def __len__(self) -> int:
        return self.count

    def read(self, indices: Sequence[int] | np.ndarray) -> Rows:
        rows = np.array([[10 * self.stream, index % 60_000, 9, 9] for index in indices], dtype=np.uint16)
        return Rows(rows, np.array([[0, 0, 1, 1]] * len(rows), np.uint8) if self.masked else None)

    def prepare(self, now: Sequence[int], soon: Sequence[int]) -> None:
        self.prepared.append((list(now), list(soon)))


COUNTS = {"c": 40, "css": 20, "python": 100}


def stream(
    batch: int = 8,
    seed: int = 17,
    shares: dict[str, float] | None = None,
    counts: dict[str, int] = COUNTS,
    window: int | None = None,
    transform: RowTransform | None = None,
    masked: str = "",
    **identity: Any,
) -> MixtureDataset:
    readers = {name: Reader(number, counts[name], name == masked) for number, name in enumerate(sorted(counts), 1)}
    resolved = resolve_shares(shares or "corpus", counts, "here")
    passes = {name: build_passes(name, (count - 5, 5), seed, window=window) for name, count in counts.items()}
    order = Order(build_schedule(resolved, batch, seed), passes)
    return MixtureDataset(
        readers, order, StreamIdentity(seed, batch, 4, "abc", "train", resolved, **identity), transform
    )


def batches(dataset: MixtureDataset, world_size: int, num_workers: int = 0, epoch: int = 0) -> list[torch.Tensor]:
    """The global batches, each rank's share after another."""
    loaders = [train_loader(dataset, EOS, rank, world_size, num_workers) for rank in range(world_size)]
    resume_at = dataset.resume_at
    ranks = []
    for loader in loaders:
        dataset.resume_at = resume_at
        assert isinstance(loader.sampler, MixtureSampler)
        loader.sampler.set_epoch(epoch)
        ranks.append([batch["input_ids"] for batch in loader])
    return [torch.cat(shares) for shares in zip(*ranks, strict=True)]


def equal(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return len(left) == len(right) and all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("window", [None, 1])
@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (4, 0), (1, 1), (1, 2), (2, 1), (2, 2)])
def test_global_order_is_the_same_on_any_ranks_and_workers(
    world_size: int, num_workers: int, window: int | None
) -> None:
    assert equal(batches(stream(window=window), 1), batches(stream(window=window), world_size, num_workers))


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_may_be_forked_or_spawned(method: str) -> None:
    loader = train_loader(stream(), EOS, 0, 1, 2)
    loader.multiprocessing_context = method
    assert equal([batch["input_ids"] for batch in loader], batches(stream(), 1))


def test_an_epoch_of_the_corpus_sees_nearly_every_sample_once() -> None:
    rows = torch.cat(batches(stream(), 1))
    distinct = {tuple(row.tolist()) for row in rows}
    assert len(rows) == 160
    assert len(distinct) >= 158


def test_passes_over_a_language_are_complete_and_differ() -> None:
    dataset = stream()
    draws = [index for language, index in map(dataset.locate, range(960)) if language == "css"]
    first, second = draws[:20], draws[20:40]
    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second


def test_epochs_continue_the_stream() -> None:
    dataset = stream()
    second = torch.cat(batches(dataset, 1, epoch=1))
    assert torch.equal(second[0], dataset[160])


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_resuming_in_the_middle_of_an_epoch_gives_the_batches_that_were_left(world_size: int) -> None:
    uninterrupted = batches(stream(), 1)
    state = stream().state_dict(num_samples=5 * 8, from_beginning=True)
    resumed = stream()
    resumed.load_state_dict(state)
    assert equal(batches(resumed, world_size), uninterrupted[5:])
    assert equal(batches(resumed, world_size, epoch=1), batches(stream(), 1, epoch=1))


@pytest.mark.parametrize("samples_done", [0, 160])
def test_a_checkpoint_between_two_epochs_goes_on_with_the_next(samples_done: int) -> None:
    """Composer checkpoints the last batch of an epoch before it counts the epoch, or after."""
    resumed = stream()
    resumed.load_state_dict(resumed.state_dict(num_samples=samples_done, from_beginning=True))
    if samples_done:
        assert batches(resumed, 1, epoch=0) == []
    assert equal(batches(resumed, 1, epoch=1), batches(stream(), 1, epoch=1))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (stream(shares={"python": 1, "c": 1}), "mixture was .*'python': 0.5.* and is now"),
        (stream(batch=16), "global_train_batch_size was 16 and is now 8"),
        (stream(seed=1), "seed was 1 and is now 17"),
        (stream(replay={"manifest_hash": "b", "split": "train"}), "replay was .*'b'.* and is now None"),
        (stream(streams={"c": {"limit": 3}}), "streams was .*'limit': 3.* and is now {}"),
        (stream(on_exhausted="end_epoch"), "on_exhausted was 'end_epoch' and is now 'refill'"),
        (stream(shuffle_window=8), "shuffle_window was 8 and is now None"),
        (stream(fim={"rate": 0.5, "spm_rate": 0.5}), "fim was .*0.5.* and is now None"),
        (stream(order=1), "order was 1 and is now 2"),
    ],
)
def test_resuming_on_another_stream_is_refused_with_the_difference(other: MixtureDataset, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        stream().load_state_dict(other.state_dict(8, True))


def test_a_checkpoint_of_before_the_order_had_a_number_is_refused() -> None:
    state = stream().state_dict(8, True)
    del state["identity"]["order"]
    with pytest.raises(CheckpointError, match="order was None and is now 2"):
        stream().load_state_dict(state)


@given(st.integers(0, 19), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
@settings(max_examples=25, deadline=None)
def test_whatever_the_ranks_before_and_after_nothing_is_repeated_or_left_out(
    stop: int, before: int, after: int
) -> None:
    first, dataset = batches(stream(), before)[:stop], stream()
    dataset.load_state_dict(stream().state_dict(num_samples=stop * 8, from_beginning=True))
    assert equal([*first, *batches(dataset, after)], batches(stream(), 1))


@pytest.mark.parametrize("window", [None, 8])
def test_resuming_deep_in_a_thousand_million_samples_takes_no_time(window: int | None) -> None:
    counts = {"c": 400_000_000, "python": 600_000_000}
    dataset = stream(batch=1024, counts=counts, window=window)
    done = 976_000 * 1024
    state = pickle.loads(pickle.dumps(dataset.state_dict(done, from_beginning=True)))
    started = time.perf_counter()
    resumed = stream(batch=1024, counts=counts, window=window)
    resumed.load_state_dict(state)
    first = next(iter(train_loader(resumed, EOS, 1, 2, 0)))["input_ids"]
    assert time.perf_counter() - started < 1.0
    assert torch.equal(first, torch.stack(dataset.__getitems__(list(range(done + 512, done + 1024)))))


@pytest.mark.parametrize("world_size", [1, 4])
def test_batches_that_are_left_out_are_replaced_by_those_after_them_also_after_resuming(world_size: int) -> None:
    whole = [*batches(stream(), 1), *batches(stream(), 1, epoch=1)]
    first = stream()
    first.gaps = Gaps.of([(6, 9)])
    assert equal(batches(first, world_size), [*whole[:6], *whole[9:23]])
    assert equal(batches(first, world_size, epoch=1)[:5], whole[23:28])
    resumed = stream()
    resumed.load_state_dict(pickle.loads(pickle.dumps(first.state_dict(num_samples=8 * 8, from_beginning=True))))
    assert equal(batches(resumed, world_size), whole[11:23])


def test_readers_are_told_of_the_shards_before_they_read_them() -> None:
    dataset = stream(window=1)
    list(itertools.islice(train_loader(dataset, EOS, 0, 1, 0), 10))
    python = dataset.readers[2]
    assert isinstance(python, Reader)
    assert {tuple(now) for now, _ in python.prepared} <= {(0,), (1,), (0, 1), (1, 0)}
    assert all(soon in ([0], [1]) for _, soon in python.prepared)


class Failing(Reader):
    def read(self, indices: Sequence[int] | np.ndarray) -> Rows:
        raise DataError("the shard x is truncated: restore it")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_a_worker_is_still_one_sentence(num_workers: int) -> None:
    dataset = stream()
    dataset.readers[0] = Failing(1, 40)
    with pytest.raises(DataError) as caught:
        list(train_loader(dataset, EOS, 0, 1, num_workers))
    assert str(caught.value) == "the shard x is truncated: restore it"


class Reversal:
    """Reverses rows at odd positions, in place of filling in the middle."""

    def apply(self, row: np.ndarray, position: int) -> tuple[np.ndarray, None]:
        return (row[::-1] if position % 2 else row), None


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (2, 0), (1, 2)])
def test_rows_are_transformed_by_their_global_position_on_any_ranks_and_workers(
    world_size: int, num_workers: int
) -> None:
    plain = torch.cat(batches(stream(), 1))
    changed = torch.cat(batches(stream(transform=Reversal()), world_size, num_workers))
    assert torch.equal(changed[::2], plain[::2])
    assert torch.equal(changed[1::2], plain[1::2].flip(1))


def test_rows_with_a_loss_mask_are_not_transformed_and_their_labels_obey_it() -> None:
    batch = next(iter(train_loader(stream(transform=Reversal(), masked="python"), EOS, 0, 1, 0)))
    python = batch["input_ids"][:, 0] == 30
    assert 0 < python.sum() < 8
    assert batch["labels"][python][:, :2].eq(-100).all()
    assert torch.equal(batch["labels"][python][:, 2:], batch["input_ids"][python][:, 2:])
    assert torch.equal(batch["labels"][~python], batch["input_ids"][~python])


def test_the_order_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(stream(), 2)
    list(eval_loader(HeldOutDataset(Reader(1, 5), None), 2, EOS, 0, 1))
    assert torch.equal(before, torch.get_rng_state())


def test_documents_end_at_eos_and_their_first_token_is_not_predicted() -> None:
    batch = Collator(EOS)([torch.tensor([5, 6, EOS, 7, EOS, EOS, 8]), torch.tensor([5, 6, 7, 8, 9, 5, EOS])])
    assert batch["sequence_id"].tolist() == [[0, 0, 0, 1, 1, 2, 3], [0] * 7]
    assert batch["labels"].tolist() == [[5, 6, EOS, -100, EOS, -100, -100], [5, 6, 7, 8, 9, 5, EOS]]


def test_padding_is_one_document_of_which_nothing_is_predicted() -> None:
    rows = [[5, 6, EOS, EOS, EOS, EOS, 8], [EOS, EOS, EOS, 4, EOS, EOS, EOS], [EOS] * 7]
    batch = Collator(EOS)([torch.tensor(row) for row in rows])
    assert batch["sequence_id"].tolist() == [[0, 0, 0, 1, 1, 1, 2], [0, 1, 1, 2, 2, 3, 3], [0, 1, 1, 1, 1, 1, 1]]
    assert batch["labels"][:, 1:].tolist() == [
        [6, EOS, -100, -100, -100, -100],
        [-100, -100, -100, EOS, -100, -100],
        [-100] * 6,
    ]


@given(st.lists(st.sampled_from([EOS, 5, 6]), min_size=2, max_size=40))
def test_documents_and_padding_of_any_row(row: list[int]) -> None:
    batch = Collator(EOS)([torch.tensor(row)])
    ids, labels = batch["sequence_id"][0].tolist(), batch["labels"][0].tolist()
    assert ids[0] == 0
    for i in range(1, len(row)):
        after_end, still_padding = row[i - 1] == EOS, i > 1 and row[i - 2 : i + 1] == [EOS] * 3
        assert ids[i] - ids[i - 1] == (after_end and not still_padding)
        assert labels[i] == (-100 if after_end else row[i])
    pieces = [list(group) for _, group in itertools.groupby(range(len(row)), key=ids.__getitem__)]
    documents = [piece for piece in pieces if row[piece[0]] != EOS]
    assert len(pieces) <= 2 * len(documents) + 2


def test_held_out_samples_come_in_order_and_up_to_the_limit() -> None:
    loader = eval_loader(HeldOutDataset(Reader(1, 5), 3), 2, EOS, 0, 1)
    assert torch.cat([batch["input_ids"] for batch in loader])[:, 1].tolist() == [0, 1, 2]


def test_held_out_samples_have_their_loss_mask() -> None:
    (batch,) = eval_loader(HeldOutDataset(Reader(1, 2, masked=True), None), 2, EOS, 0, 1)
    assert batch["labels"].tolist() == [[-100, -100, 9, 9]] * 2


def test_identity_lists_every_difference() -> None:
    identity = stream().identity
    other = dataclasses.asdict(dataclasses.replace(identity, max_seq_len=8, manifest_hash="xyz"))
    assert identity.differences(other) == ["max_seq_len was 8 and is now 4", "manifest_hash was 'xyz' and is now 'abc'"]
