"""The mixture of languages: which language each training sample is of, exactly and for every position at once.

The schedule has a period of 1,000 global batches. In it each language gets its share of the samples, rounded to whole
ones (largest remainder), so that any 1,000 consecutive global batches hold each share within one sample; inside, the
languages are spread evenly. It depends on nothing but the shares, the seed and the global batch size.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codelm.errors import DataError
from codelm.languages import preset_shares

log = logging.getLogger(__name__)

PERIOD_BATCHES = 1000


def resolve_shares(mixture: str | Mapping[str, float], samples: Mapping[str, int], where: str) -> dict[str, float]:
    """Shares summing to 1 over languages that `samples` (language → number of samples) holds.

    A preset leaves out the languages that are absent and says so; explicit shares must name present ones.

    Raises:
        DataError: a named language has no samples, or none is left. `where` names the data folder in the sentence.
    """
    present = {language: count for language, count in samples.items() if count > 0}
    if isinstance(mixture, str):
        shares = {k: float(v) for k, v in present.items()} if mixture == "corpus" else preset_shares(mixture)
        absent = [language for language in shares if language not in present]
        if absent and len(absent) < len(shares):
            log.info("mixture %s: %s has no %s; their shares go to the others", mixture, where, ", ".join(absent))
        shares = {language: share for language, share in shares.items() if language in present}
    else:
        shares = {language: float(share) for language, share in mixture.items() if share > 0}
        absent = [language for language in shares if language not in present]
        if absent:
            raise DataError(
                f"train_data.mixture names {', '.join(absent)}, of which {where} has no sample;"
                f" it has {', '.join(sorted(present)) or 'none at all'}"
            )
    total = sum(shares.values())
    if total <= 0:
        raise DataError(f"{where} has no samples to train on; prepare a larger corpus or a shorter max_seq_len")
    return {language: shares[language] / total for language in sorted(shares)}


@dataclass(frozen=True)
class Schedule:
    """Position → (language, how many samples of it came before).

    `order` and `rank` have shape (period,): the language's number at each position of the period, and how many earlier
    positions of the period have the same language.
    """

    languages: tuple[str, ...]
    shares: tuple[float, ...]
    quotas: tuple[int, ...]
    order: np.ndarray
    rank: np.ndarray

    @property
    def period(self) -> int:
        """Samples until the schedule repeats."""
        return len(self.order)

    def draw(self, position: int) -> tuple[str, int]:
        """The language of a global position, and the number of that language's samples before it."""
        turn, offset = divmod(position, self.period)
        language = int(self.order[offset])
        return self.languages[language], turn * self.quotas[language] + int(self.rank[offset])


def build_schedule(shares: Mapping[str, float], global_batch_size: int, seed: int) -> Schedule:
    """The schedule for shares that sum to 1.

    Raises:
        DataError: a share is so small that 1,000 global batches would hold no sample of it.
    """
    languages = tuple(sorted(shares))
    period = PERIOD_BATCHES * global_batch_size
    quotas = _largest_remainder([shares[language] for language in languages], period)
    for language, quota in zip(languages, quotas, strict=True):
        if quota == 0:
            raise DataError(
                f"train_data.mixture gives {language} {shares[language]:.2g} of the samples, less than one in"
                f" {period} ({PERIOD_BATCHES} batches); raise its share to {1 / period:.2g} or leave it out"
            )
    rng = np.random.default_rng([seed, period])
    # A language's k-th sample is due at the fraction (k + phase) / quota of the period.
    due = np.concatenate([(np.arange(quota) + rng.random()) / quota for quota in quotas])
    number = np.repeat(np.arange(len(languages), dtype=np.uint8), quotas)
    by_due_time = np.argsort(due, kind="stable")
    order = number[by_due_time]
    rank = np.concatenate([np.arange(quota, dtype=np.int64) for quota in quotas])[by_due_time]
    return Schedule(languages, tuple(shares[language] for language in languages), quotas, order, rank)


def _largest_remainder(shares: list[float], total: int) -> tuple[int, ...]:
    exact = np.array(shares, dtype=np.float64) * total
    quotas = np.floor(exact).astype(np.int64)
    for index in np.argsort(quotas - exact, kind="stable")[: total - int(quotas.sum())]:
        quotas[index] += 1
    return tuple(int(quota) for quota in quotas)


def implied_epochs(schedule: Schedule, samples: Mapping[str, int], total_samples: int) -> dict[str, float]:
    """How often a run of `total_samples` passes over each language."""
    return {
        language: total_samples * quota / schedule.period / samples[language]
        for language, quota in zip(schedule.languages, schedule.quotas, strict=True)
    }
