"""Copies, limits and the split: decided by contents and names, never by order."""

import hashlib
import random
from dataclasses import dataclass

import numpy as np
import pytest

from codelm.config.data import DataConfig
from codelm.data.columns import STREAMS, Columns, ColumnsWriter
from codelm.data.documents import Counts
from codelm.data.select import HELD_OUT, LEFT_OUT, TRAIN, VALIDATION, Selection, groups, select
from codelm.data.split import draw, draw_names, is_since, share_below

C, PYTHON = STREAMS.index("c"), STREAMS.index("python")


@dataclass(frozen=True)
class Row:
    """One document."""

    text: str
    language: str = "python"
    repository: str = "r"
    changed: int | None = None
    licence_rank: int = 2
    source: str = "x"

    @property
    def digest(self) -> bytes:
        return hashlib.blake2b(self.text.encode(), digest_size=16).digest()


def columns_of(rows: list[Row]) -> Columns:
    writer = ColumnsWriter(["x", "y"])
    for row in rows:
        size = len(row.text.encode())
        writer.add(row.digest, size, row.language, row.repository, row.changed, row.licence_rank, row.source)
    return writer.finish()


def config(**changes: object) -> DataConfig:
    settings = {
        "run_name": "x",
        "sources": {"x": {"path": "x"}},
        "tokenizer": {"train": {"vocab_size": 300, "sample_bytes": 400}},
        "max_seq_len": 8,
        "output_folder": "x",
        "split": {"validation": 0.2},
    }
    return DataConfig.model_validate({**settings, **changes})


def decide(rows: list[Row], clusters: list[int] | None = None, **changes: object) -> tuple[Selection, Counts]:
    counts = Counts()
    start = np.array([0, len(rows)], dtype=np.int64)
    near = None if clusters is None else np.array(clusters, dtype=np.int64)
    return select(columns_of(rows), start, near, config(**changes), counts), counts


def chosen(rows: list[Row], selection: Selection, split: int) -> set[bytes]:
    return {row.digest for row, s in zip(rows, selection.split.tolist(), strict=True) if s == split}


ROWS = [Row(f"text number {index} " * (index % 7 + 1), ["python", "c"][index % 2]) for index in range(500)]


def test_a_file_is_on_the_same_side_whatever_the_order_and_the_other_files() -> None:
    selection, _ = decide(ROWS)
    shuffled = random.Random(0).sample(ROWS, 300)
    again, _ = decide(shuffled)
    validation = chosen(ROWS, selection, VALIDATION)
    assert chosen(shuffled, again, VALIDATION) == validation & {row.digest for row in shuffled}


def test_the_share_held_out_is_the_one_asked_for() -> None:
    digests = np.random.default_rng(0).integers(0, 2**64, (100_000, 2), dtype=np.uint64)
    for share in (0.01, 0.2, 0.5):
        assert share_below(draw(digests, 17, "split"), share).mean() == pytest.approx(share, rel=0.1)
        assert share_below(draw_names(digests[:, 0], 17), share).mean() == pytest.approx(share, rel=0.1)
    assert not share_below(draw(digests, 17, "split"), 0.0).any()
    assert (draw(digests, 17, "split") != draw(digests, 18, "split")).any()


def test_both_held_out_shares_are_those_asked_for_and_validation_does_not_move_with_the_other() -> None:
    rows = [Row(str(index)) for index in range(4000)]
    selection, _ = decide(rows, split={"validation": 0.2, "held_out": 0.1})
    assert (selection.split == VALIDATION).mean() == pytest.approx(0.2, abs=0.02)
    assert (selection.split == HELD_OUT).mean() == pytest.approx(0.1, abs=0.02)
    alone, _ = decide(rows, split={"validation": 0.2})
    np.testing.assert_array_equal(alone.split == VALIDATION, selection.split == VALIDATION)


def test_draws_for_different_purposes_are_independent() -> None:
    digests = np.random.default_rng(0).integers(0, 2**64, (100_000, 2), dtype=np.uint64)
    split, limit = (draw(digests, 17, purpose) / 2.0**64 for purpose in ("split", "limit"))
    assert abs(np.corrcoef(split, limit)[0, 1]) < 0.01
    assert np.histogram(split, bins=16)[0].std() < 120


def test_the_first_copy_is_kept() -> None:
    selection, counts = decide([*ROWS[:10], *ROWS[:10], ROWS[3]])
    assert (selection.split[:10] != LEFT_OUT).all()
    assert (selection.split[10:] == LEFT_OUT).all()
    assert counts.to_dict() == {"c": {"duplicate": 6}, "python": {"duplicate": 5}}


def test_of_copies_the_better_licensed_is_kept_then_the_later_changed() -> None:
    rows = [
        Row("same", licence_rank=2, changed=9),
        Row("same", licence_rank=0, changed=1),
        Row("same", licence_rank=0, changed=5),
        Row("same", licence_rank=0, changed=None),
    ]
    selection, _ = decide(rows, split={"validation": 0})
    assert selection.split.tolist() == [LEFT_OUT, LEFT_OUT, TRAIN, LEFT_OUT]


def test_what_is_left_out_is_counted_by_source_too() -> None:
    rows = [Row("a"), Row("b", source="y"), Row("a", source="y"), Row("a", language="c", source="y"), Row("b")]
    two = {"sources": {"x": {"path": "x"}, "y": {"path": "y"}}, "split": {"validation": 0}}
    _, counts = decide(rows, **two)
    assert counts.save()["sources"] == {"x": {"duplicate": 1}, "y": {"duplicate": 2}}
    assert counts.to_dict() == {"c": {"duplicate": 1}, "python": {"duplicate": 2}}
    twice = Counts()
    twice.add(counts.save())
    twice.add(counts.save())
    assert twice.save()["sources"] == {"x": {"duplicate": 2}, "y": {"duplicate": 4}}


def test_duplicates_can_be_kept_and_stay_on_one_side() -> None:
    selection, counts = decide(ROWS[:50] * 2, dedup={"exact": False, "near": None})
    assert counts.to_dict() == {}
    np.testing.assert_array_equal(selection.split[:50], selection.split[50:])


def test_a_repository_is_held_out_as_a_whole() -> None:
    rows = [
        Row(f"{repository} {index}", repository=f"r{repository}") for repository in range(400) for index in range(3)
    ]
    selection, _ = decide(rows, split={"by": "repository", "validation": 0.2, "held_out": 0.1})
    sides = selection.split.reshape(400, 3)
    assert (sides == sides[:, :1]).all()
    assert (sides[:, 0] == VALIDATION).mean() == pytest.approx(0.2, abs=0.06)
    assert (sides[:, 0] == HELD_OUT).mean() == pytest.approx(0.1, abs=0.05)


def test_a_copy_of_a_held_out_file_is_not_trained_on() -> None:
    """The same file in a training repository and in a held-out one stays in the latter alone."""
    rows = [Row(f"{index % 50}", repository=f"r{index // 50}") for index in range(500)]
    for exact in (True, False):
        split = {"by": "repository", "validation": 0.3, "held_out": 0.2}
        selection, counts = decide(rows, split=split, dedup={"exact": exact, "near": None})
        train, validation, held_out = (chosen(rows, selection, side) for side in (TRAIN, VALIDATION, HELD_OUT))
        assert held_out
        assert len(train | validation | held_out) == len(train) + len(validation) + len(held_out)
        assert counts.to_dict()["python"]["like_held_out"] > 0


def test_of_a_cluster_one_is_kept_and_none_is_on_both_sides() -> None:
    rows = [Row(f"{index}", repository=f"r{index}") for index in range(1000)]
    clusters = [index // 4 * 4 for index in range(1000)]
    selection, counts = decide(rows, clusters, split={"by": "repository", "validation": 0.2})
    sides = selection.split.reshape(250, 4)
    assert ((sides != LEFT_OUT).sum(axis=1) == 1).all()
    assert counts.to_dict()["python"]["near_duplicate"] + counts.to_dict()["python"]["like_held_out"] == 750
    drawn, _ = decide(rows, split={"by": "repository", "validation": 0.2}, dedup={"exact": True, "near": None})
    any_held_out = (drawn.split.reshape(250, 4) == VALIDATION).any(axis=1)
    np.testing.assert_array_equal((sides == VALIDATION).any(axis=1), any_held_out)


def test_clusters_are_drawn_as_a_whole_whatever_the_order() -> None:
    rows = [Row(f"{index}") for index in range(600)]
    clusters = [index // 3 * 3 for index in range(600)]
    split = {"by": "cluster", "validation": 0.25}
    selection, counts = decide(rows, clusters, split=split)
    assert "like_held_out" not in counts.to_dict()["python"]
    assert (selection.split == VALIDATION).sum() / 200 == pytest.approx(0.25, abs=0.08)
    backwards, _ = decide(rows[::-1], clusters, split=split)
    held = {int(row.text) // 3 for row, s in zip(rows[::-1], backwards.split, strict=True) if s == VALIDATION}
    assert held == {int(row.text) // 3 for row, s in zip(rows, selection.split, strict=True) if s == VALIDATION}


def test_copies_too_short_for_a_signature_belong_together() -> None:
    digest = columns_of([Row("a"), Row("b"), Row("a"), Row("b"), Row("c")]).digest
    assert groups(digest, np.array([0, 1, 2, 3, 1])).tolist() == [0, 1, 0, 1, 1]


def test_files_changed_since_a_day_are_validation() -> None:
    day = 1_767_225_600  # 2026-01-01
    rows = [Row("old", changed=day - 1), Row("new", changed=day), Row("unknown")]
    selection, _ = decide(rows, split={"by": "time", "since": "2026-01-01"})
    assert selection.split.tolist() == [TRAIN, VALIDATION, TRAIN]
    assert is_since(np.array([day - 1, day, -1]), "2026-01-01").tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("split", "complaint"),
    [
        ({"by": "time"}, "belong together"),
        ({"since": "2026-01-01"}, "belong together"),
        ({"by": "time", "since": "2026-02-30"}, "no day of the calendar"),
        ({"validation": 0.6, "held_out": 0.5}, "below 1"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(split: dict, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        config(split=split)


def test_a_limit_holds_for_each_language_and_its_choice_does_not_depend_on_the_order() -> None:
    selection, counts = decide(ROWS, max_bytes_per_language=3000)
    kept = selection.split != LEFT_OUT
    for code in (C, PYTHON):
        size = selection.bytes[kept & (selection.language == code)].sum()
        assert 3000 - 200 < size <= 3000
    assert counts.to_dict()["python"]["over_limit"] == int((~kept & (selection.language == PYTHON)).sum())
    backwards, _ = decide(ROWS[::-1], max_bytes_per_language=3000)
    assert chosen(ROWS[::-1], backwards, TRAIN) == chosen(ROWS, selection, TRAIN)


def test_a_higher_limit_only_adds() -> None:
    low, high = (decide(ROWS, max_bytes_per_language=limit)[0].split != LEFT_OUT for limit in (2000, 6000))
    assert (high | ~low).all()


def test_the_tokenizer_sees_training_documents_alone_up_to_its_limit() -> None:
    selection, _ = decide(ROWS)
    sample = selection.for_tokenizer
    assert (selection.split[sample] == TRAIN).all()
    assert 0 < selection.bytes[sample].sum() <= 400


def test_files_and_bytes_by_language() -> None:
    selection, _ = decide(ROWS)
    train, validation = selection.files_and_bytes("train"), selection.files_and_bytes("validation")
    for code, language in ((C, "c"), (PYTHON, "python")):
        assert train[language][0] + validation[language][0] == 250
        in_train = (selection.split == TRAIN) & (selection.language == code)
        assert train[language][1] == int(selection.bytes[in_train].sum())


def test_no_documents_at_all() -> None:
    selection, counts = decide([], [])
    assert len(selection.split) == 0
    assert counts.to_dict() == {}
    assert selection.files_and_bytes("train") == {}


def test_a_selection_comes_back_from_its_files(tmp_path) -> None:
    selection, _ = decide(ROWS)
    selection.save(tmp_path)
    again = Selection.load(tmp_path)
    np.testing.assert_array_equal(again.split, selection.split)
    assert again.files_and_bytes("train") == selection.files_and_bytes("train")
