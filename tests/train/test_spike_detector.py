"""What is a spike and what is only noise, a slope, or a new level."""

import math
import random

from codelm.train.spike_detector import SpikeDetector


def noisy(level: float, count: int, seed: int = 0) -> list[float]:
    generator = random.Random(seed)
    return [level + generator.gauss(0, 0.05) for _ in range(count)]


def spikes(losses: list[float], window_size: int = 50, threshold: float = 6.0) -> list[int]:
    detector = SpikeDetector(window_size, threshold)
    return [number for number, loss in enumerate(losses) if detector.is_spike(loss)]


def test_noise_and_a_falling_loss_are_no_spikes() -> None:
    falling = [11 * math.exp(-step / 200) + 2 + noise for step, noise in enumerate(noisy(0, 2000))]
    assert spikes(falling) == []


def test_a_loss_far_above_is_one_and_does_not_hide_the_next() -> None:
    losses = noisy(3.0, 200)
    for number in (120, 121, 122, 150):
        losses[number] = 3.6
    assert spikes(losses) == [120, 121, 122, 150]


def test_nothing_is_judged_before_the_window_is_full() -> None:
    losses = noisy(3.0, 60)
    losses[20] = 9.0
    assert spikes(losses) == []


def test_losses_that_hardly_vary_may_rise_a_little() -> None:
    assert spikes([2.0] * 100 + [2.05] + [2.2]) == [101]


def test_a_lower_loss_is_never_one() -> None:
    assert spikes([*noisy(3.0, 100), 0.1]) == []


def test_a_window_full_of_spikes_is_the_new_ordinary() -> None:
    losses = [*noisy(3.0, 100), *noisy(5.0, 200)]
    assert spikes(losses) == [*range(100, 150)]


def test_what_is_no_number_is_left_to_the_guard() -> None:
    losses = noisy(3.0, 200)
    losses[80:100] = [math.nan, math.inf] * 10
    losses[150] = 4.0
    assert spikes(losses) == [150]
