"""Which checkpoints stay: the newest n, every k-th, the best."""

import math
from pathlib import Path

import pytest

from codelm.config.training.checkpoints import SaveBestSection
from codelm.train.checkpoints.folder import checkpoints, newest_checkpoint, publish, take_away, tidy
from codelm.train.checkpoints.policy import Kept, Policy

TEN = [Kept(batch, None) for batch in range(10, 110, 10)]
MEASURED = [Kept(10, 3.0), Kept(20, 1.0), Kept(30, None), Kept(40, math.nan), Kept(50, 1.0), Kept(60, 2.0)]


def stay(policy: Policy, found: list[Kept]) -> list[int]:
    return sorted({kept.batch for kept in found} - policy.to_remove(found))


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (Policy(newest=2), [90, 100]),
        (Policy(newest=-1), [kept.batch for kept in TEN]),
        (Policy(newest=1, every=40), [40, 80, 100]),
        (Policy(newest=20), [kept.batch for kept in TEN]),
    ],
    ids=["the newest two", "all", "every fortieth and the newest", "fewer than wanted"],
)
def test_the_newest_and_every_kth(policy: Policy, kept: list[int]) -> None:
    assert stay(policy, TEN) == kept


def test_the_best_stays_and_of_equals_the_earlier() -> None:
    least = Policy(newest=1, best=SaveBestSection(metric="loss"))
    most = Policy(newest=1, best=SaveBestSection(metric="pass@1", mode="max"))
    assert stay(least, MEASURED) == [20, 60]
    assert stay(most, MEASURED) == [10, 60]


def test_what_was_not_measured_is_never_the_best() -> None:
    policy = Policy(newest=1, best=SaveBestSection(metric="loss"))
    assert policy.best_of(TEN) is None
    assert not policy.is_better(None, 3.0)
    assert not policy.is_better(math.nan, None)
    assert policy.is_better(3.0, math.nan)


def test_names_sort_by_number_also_beyond_a_million_batches(tmp_path: Path) -> None:
    for name in ("ba999998", "ba1000000", "ba999999"):
        (tmp_path / name).mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["ba999998", "ba999999", "ba1000000"]
    take_away(tmp_path / "ba999998")
    assert newest_checkpoint(tmp_path) == tmp_path / "ba1000000"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ba1000000", "ba999999"]


def test_of_a_checkpoint_that_is_a_link_the_link_goes(tmp_path: Path) -> None:
    elsewhere = tmp_path / "big-disk" / "ba000002"
    elsewhere.mkdir(parents=True)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "ba000002").symlink_to(elsewhere)
    take_away(folder / "ba000002")
    assert not list(folder.iterdir())
    (folder / ".tmp-old-ba000004").symlink_to(elsewhere)
    tidy(folder)
    assert not list(folder.iterdir())
    assert elsewhere.is_dir()


def test_a_checkpoint_replaces_a_link_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "ba000002").symlink_to(tmp_path / "gone")
    (tmp_path / ".tmp-ba000002-1").mkdir()
    publish(tmp_path / ".tmp-ba000002-1", tmp_path / "ba000002")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ba000002", "latest"]
    assert not (tmp_path / "ba000002").is_symlink()
