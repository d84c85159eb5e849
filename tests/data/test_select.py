"""Duplicates, limits and the split: decided by contents, never by order."""

import hashlib
import random

import numpy as np
import pytest

from codelm.config.data import DataConfig
from codelm.data.documents import Counts
from codelm.data.select import LEFT_OUT, Selection, select
from codelm.data.split import draw, held_out
from codelm.data.store import Record


def record(text: str, language: str = "python") -> Record:
    digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    return Record("r", None, f"{text[:9]}.py", language, None, "b", digest, len(text.encode()))


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


def decide(records: list[Record], parts: int = 3, **changes: object) -> tuple[Selection, Counts]:
    counts = Counts()
    size = max(1, -(-len(records) // parts))
    cut = [records[start : start + size] for start in range(0, len(records), size)]
    return select(cut, config(**changes), counts), counts


def chosen(records: list[Record], selection: Selection, split: int) -> set[str]:
    return {r.digest for r, s in zip(records, selection.split.tolist(), strict=True) if s == split}


RECORDS = [record(f"text number {index} " * (index % 7 + 1), ["python", "c"][index % 2]) for index in range(500)]


def test_a_file_is_on_the_same_side_whatever_the_order_and_the_other_files() -> None:
    selection, _ = decide(RECORDS)
    shuffled = random.Random(0).sample(RECORDS, 300)
    again, _ = decide(shuffled, parts=7)
    validation = chosen(RECORDS, selection, 1)
    assert chosen(shuffled, again, 1) == validation & {r.digest for r in shuffled}


def test_the_share_held_out_is_the_one_asked_for() -> None:
    digests = np.random.default_rng(0).integers(0, 2**64, (100_000, 2), dtype=np.uint64)
    for share in (0.01, 0.2, 0.5):
        assert held_out(digests, 17, share).mean() == pytest.approx(share, rel=0.1)
    assert not held_out(digests, 17, 0.0).any()
    assert (held_out(digests, 17, 0.2) != held_out(digests, 18, 0.2)).any()


def test_draws_for_different_purposes_are_independent() -> None:
    digests = np.random.default_rng(0).integers(0, 2**64, (100_000, 2), dtype=np.uint64)
    split, limit = (draw(digests, 17, purpose) / 2.0**64 for purpose in ("split", "limit"))
    assert abs(np.corrcoef(split, limit)[0, 1]) < 0.01
    assert np.histogram(split, bins=16)[0].std() < 120


def test_the_first_copy_is_kept_across_partitions() -> None:
    records = [*RECORDS[:10], *RECORDS[:10], RECORDS[3]]
    selection, counts = decide(records, parts=4)
    assert (selection.split[:10] != LEFT_OUT).all()
    assert (selection.split[10:] == LEFT_OUT).all()
    assert counts.to_dict() == {"c": {"duplicate": 6}, "python": {"duplicate": 5}}


def test_duplicates_can_be_kept_and_stay_on_one_side() -> None:
    records = RECORDS[:50] * 2
    selection, counts = decide(records, dedup={"exact": False})
    assert counts.to_dict() == {}
    np.testing.assert_array_equal(selection.split[:50], selection.split[50:])


def test_a_limit_holds_for_each_language_and_its_choice_does_not_depend_on_the_order() -> None:
    selection, counts = decide(RECORDS, max_bytes_per_language=3000)
    kept = selection.split != LEFT_OUT
    for code in (0, 1):
        size = selection.bytes[kept & (selection.language == code)].sum()
        assert 3000 - 200 < size <= 3000
    assert counts.to_dict()["python"]["over_limit"] == int((~kept & (selection.language == 1)).sum())
    backwards, _ = decide(RECORDS[::-1], max_bytes_per_language=3000)
    assert chosen(RECORDS[::-1], backwards, 0) == chosen(RECORDS, selection, 0)


def test_a_higher_limit_only_adds() -> None:
    low, high = (decide(RECORDS, max_bytes_per_language=limit)[0].split != LEFT_OUT for limit in (2000, 6000))
    assert (high | ~low).all()


def test_the_tokenizer_sees_training_documents_alone_up_to_its_limit() -> None:
    selection, _ = decide(RECORDS)
    sample = selection.for_tokenizer
    assert (selection.split[sample] == 0).all()
    assert 0 < selection.bytes[sample].sum() <= 400


def test_files_and_bytes_by_language() -> None:
    selection, _ = decide(RECORDS)
    train, validation = selection.files_and_bytes("train"), selection.files_and_bytes("validation")
    for code, language in enumerate(["c", "python"]):
        assert train[language][0] + validation[language][0] == 250
        assert train[language][1] == int(selection.bytes[(selection.split == 0) & (selection.language == code)].sum())


def test_no_documents_at_all() -> None:
    selection, counts = decide([])
    assert len(selection.split) == 0
    assert counts.to_dict() == {}
    assert selection.files_and_bytes("train") == {}
