"""A batch with a NaN costs its step and nothing else; too many of them end the run with a good checkpoint."""

import copy
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from codelm.config.train import TrainConfig
from codelm.config.training.optim import AdamWSection, LionWSection
from codelm.errors import CodelmError
from codelm.train.callbacks.guard import SKIPPED_METRIC, GradientGuard
from codelm.train.checkpoints.remote import RemoteFolder
from codelm.train.composer_model import ComposerCausalLM
from codelm.train.optim.build import build_optimizer
from codelm.train.run import train

Make = Callable[..., TrainConfig]
Poison = Callable[[dict[int, float]], None]

OPTIMIZERS = [
    {"name": "lionw", "lr": 1e-3, "weight_decay": 1e-2},
    {"name": "adamw", "lr": 1e-3, "weight_decay": 1e-1},
]
EVERY = {"save_interval": "1ba", "save_num_checkpoints_to_keep": 99}


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Poison:
    """Multiplies the losses of the second microbatches of some batches (1, 2, … of a run) by a number."""
    loss = ComposerCausalLM.loss

    def apply(factors: dict[int, float]) -> None:
        seen = 0

        def poisoned(self: ComposerCausalLM, outputs: Any, batch: Any) -> torch.Tensor:
            nonlocal seen
            if not self.training:
                return loss(self, outputs, batch)
            seen += 1
            number, microbatch = divmod(seen - 1, 2)
            return loss(self, outputs, batch) * (factors.get(number + 1, 1.0) if microbatch else 1.0)

        monkeypatch.setattr(ComposerCausalLM, "loss", poisoned)

    return apply


def rows(save_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (save_folder / "metrics.jsonl").read_text().splitlines()]


def column(save_folder: Path, name: str) -> dict[int, Any]:
    return {row["batch"]: row[name] for row in rows(save_folder) if name in row}


def weights(save_folder: Path, batch: int) -> dict[str, torch.Tensor]:
    return load_file(save_folder / f"ba{batch:06d}" / "model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda section: section["name"])
@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_the_step_of_a_poisoned_batch_is_skipped(
    train_config: Make, poison: Poison, optimizer: dict[str, Any], factor: float
) -> None:
    poison({3: factor})
    folder = train(train_config(optimizer=optimizer, max_duration="5ba", **EVERY)).parent
    assert same(weights(folder, 3), weights(folder, 2))
    assert not same(weights(folder, 4), weights(folder, 3))
    assert column(folder, SKIPPED_METRIC) == {3: 1.0}


@pytest.mark.parametrize("section", [LionWSection(name="lionw", lr=0.1), AdamWSection(name="adamw", lr=0.1)])
@pytest.mark.parametrize("steps", [0, 2])
def test_an_optimizer_whose_gradients_were_thrown_away_is_as_it_was(
    section: LionWSection | AdamWSection, steps: int
) -> None:
    model = torch.nn.Linear(3, 2)
    optimizer = build_optimizer(section, model)
    for _ in range(steps):
        model(torch.ones(3)).sum().backward()
        optimizer.step()
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    optimizer.zero_grad(set_to_none=True)
    optimizer.step()
    after = (model.state_dict(), optimizer.state_dict())
    assert repr(after) == repr(before)


def test_time_goes_on_over_a_skipped_step(train_config: Make, poison: Poison, tmp_path: Path) -> None:
    whole = train(train_config(save_folder=str(tmp_path / "whole"))).parent
    poison({3: float("nan")})
    skipped = train(train_config(save_folder=str(tmp_path / "skipped"))).parent
    for name in ("lr", "time/sample", "time/token"):
        assert column(skipped, name) == column(whole, name)


def test_a_run_that_resumes_after_a_skipped_step_counts_on(train_config: Make, poison: Poison, tmp_path: Path) -> None:
    poison({2: float("nan"), 6: float("nan")})
    folder = train(train_config(max_duration="4ba")).parent
    poison({2: float("nan")})  # the sixth of all
    train(train_config(max_duration="8ba"))
    assert column(folder, SKIPPED_METRIC) == {2: 1.0, 6: 2.0}


def test_too_many_in_a_row_end_the_run_with_a_checkpoint_from_which_it_goes_on(
    train_config: Make, poison: Poison
) -> None:
    poison(dict.fromkeys(range(3, 99), float("nan")))
    config = train_config(callbacks={"nan_guard": {"max_skipped_steps": 2}})
    with pytest.raises(CodelmError, match="in all of the batches 3 to 5; their steps were skipped and the checkpoint"):
        train(config)
    folder = Path(config.save_folder)
    assert (folder / "latest").resolve().name == "ba000005"
    assert all(tensor.isfinite().all() for tensor in weights(folder, 5).values())
    poison({})
    assert train(config).name == "ba000008"


def test_zero_allows_none(train_config: Make, poison: Poison) -> None:
    poison({2: float("nan")})
    with pytest.raises(CodelmError, match="in batch 2; their steps were skipped"):
        train(train_config(callbacks={"nan_guard": {"max_skipped_steps": 0}}))


STEADY = {"scheduler": {"name": "constant_with_warmup"}, "eval_data": {}}
GUARD = {"callbacks": {"nan_guard": {"max_skipped_steps": 3}}}
RUINOUS = {"optimizer": {"name": "lionw", "lr": 1e30}, "max_duration": "40ba", **STEADY, **GUARD}


def names(save_folder: Path, kind: str = "ba") -> list[int]:
    return sorted(int(path.name[-6:]) for path in save_folder.glob(f"{kind}0*"))


@pytest.mark.parametrize(
    ("changes", "ruined"),
    [
        ({"save_interval": "2ba", "save_num_checkpoints_to_keep": 2}, [6, 8]),
        ({"save_interval": "1ba", "save_num_checkpoints_to_keep": 1, "save_async": True}, [8]),
        # The ruined weights are also the best.
        (
            {
                "save_interval": "1ba",
                "save_num_checkpoints_to_keep": 1,
                "save_best": {"metric": "lr", "mode": "max"},
            },
            [5, 8],
        ),
    ],
    ids=["two are kept", "one is kept, saved the moment it was ruined", "with a best"],
)
def test_ruined_weights_push_out_no_good_checkpoint_and_the_run_goes_on_from_that(
    train_config: Make, tmp_path: Path, changes: dict[str, Any], ruined: list[int]
) -> None:
    steady = train_config(**STEADY, **{**changes, "save_best": None})
    remote = f"file://{tmp_path / 'bucket'}"
    train(steady.model_copy(update={"max_duration": "4ba", "save_remote": remote}))
    ruinous = train_config(**RUINOUS, **changes, save_remote=remote)
    with pytest.raises(
        CodelmError, match=r"in all of the batches 6 to 9; .* after the step of batch 5 .* go on from "
    ) as e:
        train(ruinous)
    folder = Path(ruinous.save_folder)
    assert f"go on from {folder / 'ba000004'}, the last checkpoint whose weights" in str(e.value)
    assert names(folder) == [4]
    assert set(ruined) <= set(names(folder, "ruined-ba"))
    assert (folder / "latest").resolve().name == "ba000004"
    assert not (folder / "best").is_symlink() or (folder / "best").resolve().name == "ba000004"
    assert RemoteFolder(remote).whole_checkpoints() == ["ba000004"]
    assert train(steady).name == "ba000008"
    whole = train(train_config(**STEADY, save_folder=str(tmp_path / "whole"))).parent
    assert same(weights(folder, 8), weights(whole, 8))


def test_a_run_stopped_while_steps_were_skipped_goes_back_when_it_is_run_again(
    train_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(train_config(**STEADY, max_duration="4ba"))
    ruinous = train_config(**RUINOUS)
    skip = GradientGuard._skip

    def interrupted(self: GradientGuard, *given: Any) -> None:
        skip(self, *given)
        if self.in_a_row == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(GradientGuard, "_skip", interrupted)
    folder = Path(ruinous.save_folder)
    with pytest.raises(SystemExit):
        train(ruinous)
    assert names(folder) == [4, 7]
    with pytest.raises(
        CodelmError, match=r"in all of the batches 6 to 9; .* after the step of batch 5 .*ba000004, the"
    ):
        train(ruinous)
    assert names(folder) == [4]


def test_where_no_step_was_made_at_all_the_checkpoints_are_left_to_the_user(train_config: Make) -> None:
    every = {"save_interval": "1ba", "save_num_checkpoints_to_keep": 2}
    train(train_config(**STEADY, **every, max_duration="4ba"))
    train(train_config(**{**RUINOUS, "max_duration": "5ba"}, **every))
    ruinous = train_config(**RUINOUS, **every)
    folder = Path(ruinous.save_folder)
    for _ in range(2):
        with pytest.raises(CodelmError, match=r"none was made since .* remove the checkpoints from that batch on"):
            train(ruinous)
        assert names(folder)[0] == 4
        assert not names(folder, "ruined-ba")


def test_training_does_not_end_well_with_ruined_weights(train_config: Make) -> None:
    train(train_config(**STEADY, max_duration="4ba"))
    ruinous = train_config(**{**RUINOUS, "max_duration": "7ba"})
    with pytest.raises(CodelmError, match=r"in all of the batches 6 to 7; .* after the step of batch 5 the weights"):
        train(ruinous)
    assert names(Path(ruinous.save_folder)) == [4]


def test_training_that_ends_with_bad_data_ends_as_usual(train_config: Make, poison: Poison) -> None:
    poison({7: float("nan"), 8: float("nan")})
    folder = train(train_config(save_interval="1ba", save_num_checkpoints_to_keep=1)).parent
    assert names(folder) == [8]


def test_a_run_without_any_good_checkpoint_starts_afresh(train_config: Make) -> None:
    ruinous = train_config(**RUINOUS, save_interval="1ba")
    with pytest.raises(CodelmError, match=r"in all of the batches 2 to 5; .* to start afresh, since no checkpoint"):
        train(ruinous)
    folder = Path(ruinous.save_folder)
    assert not names(folder)
    assert not (folder / "latest").is_symlink()
    assert train(train_config(**STEADY)).name == "ba000008"
