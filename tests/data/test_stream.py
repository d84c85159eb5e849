"""The stream's order is a function of position: the same on any number of ranks and workers, and after resuming."""

import dataclasses

import numpy as np
import pytest
import torch

from codelm.data.mixture import build_schedule, resolve_shares
from codelm.data.stream import (
    Collator,
    HeldOutDataset,
    MixtureDataset,
    MixtureSampler,
    StreamIdentity,
    eval_loader,
    train_loader,
)
from codelm.errors import CheckpointError

EOS = 1


class Rows:
    """`count` samples of four tokens that tell their language and number."""

    def __init__(self, language: int, count: int) -> None:
        self.rows = np.array([[10 * language, index, 9, 9] for index in range(count)], dtype=np.uint16)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows[index]


def stream(batch: int = 8, seed: int = 17, shares: dict[str, float] | None = None) -> MixtureDataset:
    readers = {"c": Rows(1, 40), "css": Rows(2, 20), "python": Rows(3, 100)}
    resolved = resolve_shares(shares or "corpus", {name: len(rows) for name, rows in readers.items()}, "here")
    identity = StreamIdentity(seed, batch, 4, "abc", "train", resolved)
    return MixtureDataset(readers, build_schedule(resolved, batch, seed), identity)


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


@pytest.mark.parametrize(("world_size", "num_workers"), [(2, 0), (4, 0), (1, 2), (2, 2)])
def test_global_order_is_the_same_on_any_ranks_and_workers(world_size: int, num_workers: int) -> None:
    assert equal(batches(stream(), 1), batches(stream(), world_size, num_workers))


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
    ],
)
def test_resuming_on_another_stream_is_refused_with_the_difference(other: MixtureDataset, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        stream().load_state_dict(other.state_dict(8, True))


def test_the_order_does_not_touch_the_global_generator() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(stream(), 2)
    list(eval_loader(HeldOutDataset(Rows(1, 5), None), 2, EOS, 0, 1))
    assert torch.equal(before, torch.get_rng_state())


def test_documents_end_at_eos_and_their_first_token_is_not_predicted() -> None:
    batch = Collator(EOS)([torch.tensor([5, 6, EOS, 7, EOS, EOS, 8]), torch.tensor([5, 6, 7, 8, 9, 5, EOS])])
    assert batch["sequence_id"].tolist() == [[0, 0, 0, 1, 1, 2, 3], [0] * 7]
    assert batch["labels"].tolist() == [[5, 6, EOS, -100, EOS, -100, -100], [5, 6, 7, 8, 9, 5, EOS]]


def test_held_out_samples_come_in_order_and_up_to_the_limit() -> None:
    loader = eval_loader(HeldOutDataset(Rows(1, 5), 3), 2, EOS, 0, 1)
    assert torch.cat([batch["input_ids"] for batch in loader])[:, 1].tolist() == [0, 1, 2]


def test_identity_lists_every_difference() -> None:
    identity = stream().identity
    other = dataclasses.asdict(dataclasses.replace(identity, max_seq_len=8, manifest_hash="xyz"))
    assert identity.differences(other) == ["max_seq_len was 8 and is now 4", "manifest_hash was 'xyz' and is now 'abc'"]
