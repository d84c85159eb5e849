"""Scores and how sure one can be of them.

pass@k: the unbiased estimator of Chen et al., 2021 (section 2.1). Wilson's interval: Wilson, 1927.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

_Z95 = 1.959963984540054
_RESAMPLES = 2000


@dataclass(frozen=True)
class Score:
    """A measured value.

    Attributes:
        n: problems it is a mean over.
        standard_error: over the problems, as a sample of problems of this kind; None when n < 2.
        low, high: a 95 % interval.
        interval: the method behind it.
        repeat: everything needed to measure it again.
    """

    name: str
    value: float
    n: int
    standard_error: float | None
    low: float
    high: float
    interval: str
    repeat: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For summary.json."""
        return asdict(self)


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """The chance that at least one of k samples, drawn without replacement from those judged, is correct.

    Raises:
        ValueError: for k above the number of samples.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples, not {samples}")
    if samples - correct < k:
        return 1.0
    return 1.0 - math.prod(1.0 - k / rest for rest in range(samples - correct + 1, samples + 1))


def score_pass_at_k(counts: Sequence[tuple[int, int]], k: int, repeat: dict[str, Any]) -> Score:
    """pass@k over problems, each given as (samples, correct).

    With one sample for each problem the interval is Wilson's, otherwise a bootstrap over problems.
    """
    values = [pass_at_k(samples, correct, k) for samples, correct in counts]
    if all(value in (0.0, 1.0) for value in values):
        low, high = wilson(int(sum(values)), len(values))
        interval = "wilson"
    else:
        low, high = bootstrap(values)
        interval = f"bootstrap over problems, {_RESAMPLES} resamples"
    return Score(f"pass@{k}", _mean(values), len(values), standard_error(values), low, high, interval, repeat)


def score_mean(name: str, values: Sequence[float], repeat: dict[str, Any]) -> Score:
    """The mean over problems, with a bootstrap interval."""
    low, high = bootstrap(values)
    interval = f"bootstrap over problems, {_RESAMPLES} resamples"
    return Score(name, _mean(values), len(values), standard_error(values), low, high, interval, repeat)


def score_ratio(name: str, pairs: Sequence[tuple[float, float]], repeat: dict[str, Any]) -> Score:
    """All of the first over all of the second, with a bootstrap interval over the pairs.

    The standard error is that of a ratio estimator (Cochran, Sampling Techniques, 1977, section 2.11).
    """
    above, below = (math.fsum(side) for side in zip(*pairs, strict=True))
    ratio, mean = above / below, below / len(pairs)
    error = standard_error([(a - ratio * b) / mean for a, b in pairs])
    draw = random.Random(0)
    ratios = []
    for _ in range(_RESAMPLES):
        drawn = draw.choices(pairs, k=len(pairs))
        ratios.append(math.fsum(a for a, _ in drawn) / math.fsum(b for _, b in drawn))
    low, high = _middle(ratios)
    interval = f"bootstrap over documents, {_RESAMPLES} resamples"
    return Score(name, ratio, len(pairs), error, low, high, interval, repeat)


def standard_error(values: Sequence[float]) -> float | None:
    """The standard error of the mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = _mean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval for a proportion."""
    share = successes / n
    centre = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * math.sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    return (centre - half if successes else 0.0), (centre + half if successes < n else 1.0)


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """A 95 % percentile interval of the mean, from resampled problems; the same for the same values."""
    draw = random.Random(seed)
    return _middle([_mean(draw.choices(values, k=len(values))) for _ in range(_RESAMPLES)])


def _middle(resampled: Sequence[float]) -> tuple[float, float]:
    """What 95 % of them lie between."""
    ranked = sorted(resampled)
    return ranked[round(0.025 * (_RESAMPLES - 1))], ranked[round(0.975 * (_RESAMPLES - 1))]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
