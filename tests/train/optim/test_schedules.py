"""Schedules: no step at rate 0, Composer's and llm-foundry's curves after the warm-up, the end where the run ends."""

import itertools
import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from composer.core import Time, Timestamp
from composer.optim import CosineAnnealingWithWarmupScheduler, LinearWithWarmupScheduler
from pydantic import TypeAdapter

from codelm.config.fields import parse_duration
from codelm.config.train import TrainConfig
from codelm.config.training.optim import SchedulerSection
from codelm.errors import ConfigError
from codelm.train.build import build_pieces, in_batches
from codelm.train.optim.schedules import Schedule, schedule
from codelm.train.run import train

STEPS = 100
EVERY = [
    {"name": "cosine_with_warmup"},
    {"name": "linear_with_warmup"},
    {"name": "constant_with_warmup"},
    {"name": "inv_sqrt_with_warmup", "t_scale": "20ba"},
    {"name": "inv_sqrt_with_warmup", "t_scale": "20ba", "t_cooldown": "30ba"},
    {"name": "wsd", "t_decay": "20ba"},
    {"name": "wsd", "t_decay": "20ba", "shape": "cosine"},
    {"name": "wsd", "t_decay": "20ba", "shape": "1-sqrt", "alpha_f": 0.1},
]
FALLING = [EVERY[0], EVERY[1], EVERY[4], *EVERY[5:]]


def name_of(section: dict[str, Any]) -> str:
    return "-".join(str(value) for key, value in section.items() if key in ("name", "shape", "t_cooldown"))


def built(section: dict[str, Any], steps: int = STEPS) -> Schedule:
    parsed = TypeAdapter(SchedulerSection).validate_python(section)
    return schedule(parsed, steps, lambda time: parse_duration(time)[0])


@pytest.mark.parametrize("section", EVERY, ids=name_of)
def test_a_warmup_climbs_from_its_first_step_to_the_full_rate_and_no_step_is_lost(section: dict[str, Any]) -> None:
    parts = [built({**section, "t_warmup": "10ba"})(done) for done in range(STEPS)]
    assert parts[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert parts[10] == 1.0
    assert all(0 < later <= earlier <= 1 for earlier, later in itertools.pairwise(parts[9:]))


@pytest.mark.parametrize("section", FALLING, ids=name_of)
def test_the_decay_ends_with_the_run_and_stays_there(section: dict[str, Any]) -> None:
    of = built({**section, "t_warmup": "10ba"})
    end = 0.1 if section["name"] == "cosine_with_warmup" else section.get("alpha_f", 0.0)
    assert of(STEPS - 1) > end
    assert of(STEPS) == pytest.approx(end)
    assert of(STEPS + 50) == pytest.approx(end)


@pytest.mark.parametrize("section", EVERY, ids=name_of)
def test_without_a_warmup_the_first_step_has_the_full_rate(section: dict[str, Any]) -> None:
    assert built(section)(0) == 1.0


@pytest.mark.parametrize(
    ("section", "theirs"),
    [
        (EVERY[0], CosineAnnealingWithWarmupScheduler("10ba", alpha_f=0.1)),
        (EVERY[1], LinearWithWarmupScheduler("10ba", alpha_f=0.0)),
    ],
    ids=["cosine", "linear"],
)
def test_after_the_warmup_it_is_composers_curve(section: dict[str, Any], theirs: Callable[..., float]) -> None:
    ours = built({**section, "t_warmup": "10ba"})
    for done in range(10, STEPS):
        state: Any = SimpleNamespace(timestamp=Timestamp(batch=done), max_duration=Time.from_timestring(f"{STEPS}ba"))
        assert ours(done) == pytest.approx(theirs(state))


def test_after_the_warmup_inverse_sqrt_is_llm_foundrys_curve() -> None:
    """Values of llm-foundry 0.22.0's InverseSquareRootWithWarmupScheduler with these settings."""
    ours = built(
        {
            "name": "inv_sqrt_with_warmup",
            "t_warmup": "10ba",
            "t_scale": "20ba",
            "t_cooldown": "15ba",
            "alpha_f_decay": 0.1,
            "alpha_f_cooldown": 0.05,
        }
    )
    recorded = {
        10: 1.000000,
        11: 0.978310,
        30: 0.736396,
        70: 0.550000,
        84: 0.515139,
        85: 0.512948,
        92: 0.296906,
        99: 0.080863,
    }
    assert {done: ours(done) for done in recorded} == pytest.approx(recorded, abs=1e-6)


def test_what_is_stable_stays_at_the_full_rate() -> None:
    of = built({"name": "wsd", "t_warmup": "10ba", "t_decay": "20ba"})
    assert [of(done) for done in range(10, 81)] == [1.0] * 71
    assert of(90) == pytest.approx(0.5)


def test_a_longer_run_changes_nothing_of_the_past_where_the_end_is_open() -> None:
    for section in (EVERY[2], EVERY[3], {"name": "wsd", "t_decay": "20ba"}):
        short, long = built(section), built(section, 2 * STEPS)
        assert [short(done) for done in range(80)] == [long(done) for done in range(80)]


def test_a_warmup_and_a_decay_that_are_longer_than_the_run_are_refused() -> None:
    with pytest.raises(ConfigError, match="t_warmup and t_decay take 90 and 20 batches, and the run has 100; shorten"):
        built({"name": "wsd", "t_warmup": "90ba", "t_decay": "20ba"})


def test_durations_of_any_unit_become_steps(train_config: Callable[..., TrainConfig]) -> None:
    config = train_config(
        max_duration="20ba",
        scheduler={"name": "wsd", "t_warmup": "8sp", "t_decay": "4096tok"},
    )
    of = build_pieces(config, 0, 1).learning_rate
    assert in_batches("4096tok", config, 1) == 4
    assert [of(done) for done in (0, 1, 2, 15, 16, 17)] == pytest.approx([0.5, 1, 1, 1, 1, 0.75])


def test_a_run_steps_at_the_rates_of_its_schedule(train_config: Callable[..., TrainConfig]) -> None:
    folder = train(train_config(scheduler={"name": "wsd", "t_warmup": "2ba", "t_decay": "4ba"})).parent
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rates = {line["batch"]: line["lr"] for line in lines if "lr" in line}
    parts = [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert rates == pytest.approx({batch + 1: 1e-3 * part for batch, part in enumerate(parts)})
