"""The mixture of streams: which stream each training sample is of, exactly and for every position at once.

A stream is a language (or `instructions`) of a corpus, or of the corpus that is replayed (`replay/<language>`). The
schedule has a period of 1,000 global batches. In it each stream gets its share of the samples, rounded to whole ones
(largest remainder), so that any 1,000 consecutive global batches hold each share within one sample; every single batch
holds each share within one sample, too. It depends on nothing but the shares, the seed and the global batch size, and
takes eight kilobytes a stream, whatever the batch size.
"""

import logging
import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from codelm.data.permutation import mix_key, mix_keys, permute_all
from codelm.errors import DataError
from codelm.languages import preset_shares

log = logging.getLogger(__name__)

PERIOD_BATCHES = 1000
REPLAY = "replay/"
# Of the numbers without a common factor with 1,000 the nearest to 1,000 / golden ratio: steps of it spread best.
_STRIDE = 617
_STRIDE_INVERSE = pow(_STRIDE, -1, PERIOD_BATCHES)


def resolve_shares(
    mixture: str | Mapping[str, float],
    samples: Mapping[str, int],
    where: str,
    temperature: float = 1.0,
    upsample: Mapping[str, float] | None = None,
    key: str = "train_data",
) -> dict[str, float]:
    """Shares summing to 1 over streams that `samples` (stream → number of samples) holds.

    A preset leaves out the languages that are absent and says so; explicit shares must name present ones.

    Args:
        where: the data folder, for the sentences.
        temperature: T makes a share p of the mixture p^(1/T), in proportion.
        upsample: a factor on the share of some streams, after the temperature.
        key: the section of the YAML, for the sentences.

    Raises:
        DataError: a named stream has no samples, or none is left.
    """
    present = {stream: count for stream, count in samples.items() if count > 0}
    if isinstance(mixture, str):
        shares = {k: float(v) for k, v in present.items()} if mixture == "corpus" else preset_shares(mixture)
        absent = [stream for stream in shares if stream not in present]
        if absent and len(absent) < len(shares):
            log.info("mixture %s: %s has no %s; their shares go to the others", mixture, where, ", ".join(absent))
        unnamed = sorted(set(present) - set(shares))
        if unnamed:
            log.warning("mixture %s has no share for %s of %s; none is read", mixture, ", ".join(unnamed), where)
        shares = {stream: share for stream, share in shares.items() if stream in present}
    else:
        shares = {stream: float(share) for stream, share in mixture.items() if share > 0}
        absent = [stream for stream in shares if stream not in present]
        if absent:
            raise DataError(
                f"{key}.mixture names {', '.join(absent)}, of which {where} has no sample;"
                f" it has {', '.join(sorted(present)) or 'none at all'}"
            )
    if not present:
        raise DataError(f"{where} has no samples to train on; prepare a larger corpus or a shorter max_seq_len")
    if not shares:
        raise DataError(
            f"{key}.mixture {mixture} has no share for anything in {where}, which holds {', '.join(sorted(present))};"
            " name shares of these, or use the mixture corpus"
        )
    idle = sorted(set(upsample or {}) - set(shares))
    if idle:
        raise DataError(
            f"{key}.streams names {', '.join(idle)}, which the mixture of {where} does not hold;"
            f" it holds {', '.join(sorted(shares))} (`streams: {{}}` drops what a YAML inherits)"
        )
    if temperature != 1.0:
        largest = max(shares.values())
        shares = {stream: (share / largest) ** (1 / temperature) for stream, share in shares.items()}
    return _normalised({stream: share * (upsample or {}).get(stream, 1.0) for stream, share in shares.items()})


def _normalised(weights: Mapping[str, float]) -> dict[str, float]:
    total = math.fsum(weights.values())
    return {stream: weights[stream] / total for stream in sorted(weights)}


def with_replay(shares: Mapping[str, float], replayed: Mapping[str, float], share: float) -> dict[str, float]:
    """Both mixtures as one: the replayed corpus gets `share` of all samples; `replay/` stands before its names."""
    mine = {stream: value * (1 - share) for stream, value in shares.items()}
    theirs = {f"{REPLAY}{stream}": value * share for stream, value in replayed.items()}
    return {**mine, **theirs}


def without_rare(shares: Mapping[str, float], global_batch_size: int, named: Set[str]) -> dict[str, float]:
    """The shares without the streams of which 1,000 global batches would hold no sample, and says so.

    A rare language of a large corpus is no reason to stop; one that is `named` in the YAML stays, to be refused.
    """
    while True:
        quotas = _largest_remainder([*shares.values()], PERIOD_BATCHES * global_batch_size)
        rare = sorted({stream for stream, quota in zip(shares, quotas, strict=True) if quota == 0} - named)
        if not rare:
            return dict(shares)
        log.warning(
            "too rare for one sample in %d batches, so none is read: %s; name them in train_data.mixture, or raise"
            " train_data.temperature",
            PERIOD_BATCHES,
            ", ".join(rare),
        )
        shares = _normalised({stream: share for stream, share in shares.items() if stream not in rare})


@dataclass(frozen=True)
class Schedule:
    """Position → (stream, how many samples of it came before).

    A batch holds `quota // 1000` samples of each stream, and one more where the stream has an extra sample; `before`
    counts a stream's samples before each batch of the period and at its end, shape (1001, streams). Inside a batch the
    samples stand in an order of their own, which returns with the period.
    """

    streams: tuple[str, ...]
    shares: tuple[float, ...]
    quotas: tuple[int, ...]
    """Samples of each stream in a period."""
    batch_size: int
    seed: int
    before: np.ndarray

    @property
    def period(self) -> int:
        """Samples until the schedule repeats."""
        return PERIOD_BATCHES * self.batch_size

    def draw(self, position: int) -> tuple[str, int]:
        """The stream of a global position, and the number of that stream's samples before it."""
        streams, drawn = self.draw_all(np.array([position], np.int64))
        return self.streams[streams[0]], int(drawn[0])

    def draw_all(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`draw` for many positions, shape (n,), int64: the numbers of their streams and of the samples before."""
        turn, offset = np.divmod(positions, self.period)
        batch, place = np.divmod(offset, self.batch_size)
        place = permute_all(place, self.batch_size, mix_keys(mix_key(self.seed, self.batch_size), batch))
        ends = (self.before[batch + 1] - self.before[batch]).cumsum(axis=1)
        stream = (place[:, None] >= ends).sum(axis=1)
        rows = np.arange(len(positions))
        first = np.where(stream > 0, ends[rows, stream - 1], 0)
        quotas = np.array(self.quotas, np.int64)
        return stream, turn * quotas[stream] + self.before[batch, stream] + place - first

    def drawn_before(self, batch: int) -> np.ndarray:
        """Samples of each stream before a global batch (0, 1, 2, … without end): int64 of shape (streams,)."""
        turn, inside = divmod(batch, PERIOD_BATCHES)
        return turn * np.array(self.quotas, np.int64) + self.before[inside]

    def most_in(self, batches: int) -> np.ndarray:
        """The most samples of each stream in any `batches` consecutive global batches: int64 of shape (streams,)."""
        turns, rest = divmod(batches, PERIOD_BATCHES)
        quotas = np.array(self.quotas, np.int64)
        twice = np.concatenate([self.before, self.before[1:] + quotas])
        windows = twice[rest : rest + PERIOD_BATCHES] - twice[:PERIOD_BATCHES]
        return turns * quotas + windows.max(axis=0)


def build_schedule(shares: Mapping[str, float], global_batch_size: int, seed: int) -> Schedule:
    """The schedule for shares that sum to 1.

    Every batch has the same number of samples left after `quota // 1000` of each stream. The extra samples of all
    streams, laid end to end, fill those places batch after batch in steps of 617: a stream has at most one extra
    sample in a batch, and its extra samples are spread evenly over the period (the three-distance theorem).

    Raises:
        DataError: a share is so small that 1,000 global batches would hold no sample of it.
    """
    streams = tuple(sorted(shares))
    period = PERIOD_BATCHES * global_batch_size
    quotas = _largest_remainder([shares[stream] for stream in streams], period)
    for stream, quota in zip(streams, quotas, strict=True):
        if quota == 0:
            section = "train_data.replay" if stream.startswith(REPLAY) else "train_data"
            raise DataError(
                f"{section}.mixture gives {stream.removeprefix(REPLAY)} {shares[stream]:.2g} of the samples, less than"
                f" one in {period} ({PERIOD_BATCHES} batches); raise its share to {1 / period:.2g} or leave it out"
            )
    extra = np.array(quotas, np.int64) % PERIOD_BATCHES
    first = extra.cumsum() - extra + mix_key(seed) % PERIOD_BATCHES
    slot = np.arange(PERIOD_BATCHES) * _STRIDE_INVERSE % PERIOD_BATCHES
    counts = np.array(quotas, np.int64) // PERIOD_BATCHES + ((slot[:, None] - first) % PERIOD_BATCHES < extra)
    before = np.concatenate([np.zeros((1, len(streams)), np.int64), counts.cumsum(axis=0)])
    return Schedule(streams, tuple(shares[stream] for stream in streams), quotas, global_batch_size, seed, before)


def _largest_remainder(shares: Sequence[float], total: int) -> tuple[int, ...]:
    exact = np.array(shares, dtype=np.float64) * total
    quotas = np.floor(exact).astype(np.int64)
    for index in np.argsort(quotas - exact, kind="stable")[: total - int(quotas.sum())]:
        quotas[index] += 1
    return tuple(int(quota) for quota in quotas)


def implied_epochs(schedule: Schedule, samples: Mapping[str, int], total_samples: int) -> dict[str, float]:
    """How often a run of `total_samples` passes over each stream."""
    return {
        stream: total_samples * quota / schedule.period / samples[stream]
        for stream, quota in zip(schedule.streams, schedule.quotas, strict=True)
    }
