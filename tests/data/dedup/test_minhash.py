"""Signatures against exact Jaccard similarities of Python's sets, and against datasketch's choice of bands."""

import random
import re
import sysconfig
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.config.cleaning import NearDuplicatesSection
from codelm.data.dedup.minhash import (
    NO_SIGNATURE,
    Signer,
    band_hashes,
    has_signature,
    optimal_bands,
    signatures,
    similarity,
)

SECTION = NearDuplicatesSection()
FILES = [
    path.read_text(encoding="utf-8") for path in sorted(Path(sysconfig.get_path("stdlib"), "asyncio").glob("*.py"))
]


def shingles(text: str, ngram: int = 5) -> set[tuple[str, ...]]:
    tokens = re.findall(r"[A-Za-z0-9_\x80-\U0010ffff]+", text)
    return set(zip(*(tokens[start:] for start in range(ngram)), strict=False))


def jaccard(left: str, right: str) -> float:
    one, two = shingles(left), shingles(right)
    return len(one & two) / len(one | two)


def alike(left: str, right: str, **changes: int) -> float:
    rows = signatures([left, right], NearDuplicatesSection.model_validate({"min_tokens": 1, **changes}))
    assert has_signature(rows).all()
    return float(similarity(rows[:1], rows[1:])[0])


def test_estimates_have_the_error_of_independent_orders_and_no_bias() -> None:
    draw = random.Random(0)
    exact, left, right = [], [], []
    for _ in range(400):
        text = draw.choice([file for file in FILES if len(file) > 3000])
        lost = draw.random() * 0.2
        changed = "\n".join(line for line in text.split("\n") if draw.random() > lost)
        exact.append(jaccard(text, changed))
        left.append(text)
        right.append(changed)
    error = similarity(signatures(left, SECTION), signatures(right, SECTION)) - np.array(exact)
    expected = np.sqrt(np.mean([similar * (1 - similar) for similar in exact]) / SECTION.num_permutations)
    assert min(exact) < 0.5 < 0.9 < max(exact)
    assert np.sqrt(np.mean(error**2)) == pytest.approx(expected, rel=0.2)
    assert abs(error.mean()) < 0.01


def test_a_text_has_the_least_values_of_its_shingles() -> None:
    section = NearDuplicatesSection(min_tokens=1)
    text = FILES[2]
    alone = signatures([" ".join(shingle) for shingle in sorted(shingles(text))], section)
    assert (alone.min(axis=0) == signatures([text], section)[0]).all()


def test_a_text_longer_than_what_is_hashed_at_once_has_the_least_values_of_its_parts() -> None:
    tokens = [f"t{number}" for number in range(150_000)]
    parts = [" ".join(tokens[start : start + 10_004]) for start in range(0, len(tokens), 10_000)]
    whole = signatures([" ".join(tokens)], SECTION)[0]
    assert (signatures(parts, SECTION).min(axis=0) == whole).all()


def test_a_signature_does_not_depend_on_the_texts_around_it() -> None:
    texts = [*FILES, "", "a b c", *FILES[:3] * 5]
    together = signatures(texts, SECTION)
    assert (together == np.concatenate([signatures([text], SECTION) for text in texts])).all()
    order = random.Random(1).sample(range(len(texts)), len(texts))
    assert (signatures([texts[index] for index in order], SECTION) == together[order]).all()


@given(st.lists(st.text(st.sampled_from("ab1_ \n.é語"), max_size=60), max_size=12), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_texts_with_equal_shingles_and_only_those_have_equal_signatures(texts: list[str], ngram: int) -> None:
    rows = signatures(texts, NearDuplicatesSection(ngram=ngram, min_tokens=1))
    sets = [shingles(text, ngram) for text in texts]
    assert has_signature(rows).tolist() == [bool(one) for one in sets]
    for (one, row), (two, other) in pairwise(zip(sets, rows, strict=True)):
        assert (row == other).all() == (one == two)


def test_what_stands_between_tokens_makes_no_difference_but_letters_do() -> None:
    assert alike("def f(x): return x + one", "def\tf (x)\n  return x, one;") == 1
    assert alike("def f(x): return x + one", "DEF F(X): RETURN X + ONE") == 0
    assert alike("a b c d e", "ab c d e f") == 0
    assert alike("a b c d e", "b a c d e") == 0


def test_words_beyond_ascii_are_tokens() -> None:
    arabic = "export default { confirm: 'نعم', clear: 'حذف', now: 'الآن', today: 'اليوم', cancel: 'إلغاء' }"
    persian = "export default { confirm: 'تایید', clear: 'پاک', now: 'اکنون', today: 'امروز', cancel: 'لغو' }"
    assert alike(arabic, persian) < 0.2
    assert alike(arabic, arabic.replace("'", '"')) == 1


def test_short_texts_have_no_signature() -> None:
    rows = signatures(["", " ".join("abcdefghi"), " ".join("abcdefghij"), "語 " * 9], SECTION)
    assert has_signature(rows).tolist() == [False, False, True, False]
    assert (rows[[0, 1, 3]] == NO_SIGNATURE).all()
    assert not has_signature(signatures(["a b c d"], NearDuplicatesSection(min_tokens=1, ngram=5))).any()
    assert signatures([], SECTION).shape == (0, SECTION.num_permutations)


def test_hostile_texts_are_survived() -> None:
    texts = ["\ud800 " * 30, "\0" * 100, "x" * 3_000_000, "a\0b " * 20, "\U0010ffff" * 40, "a " * 100_000]
    rows = signatures(texts, SECTION)
    assert has_signature(rows).tolist() == [True, False, False, True, False, True]


def test_fewer_orders_are_the_first_of_more() -> None:
    more = signatures(FILES, NearDuplicatesSection(num_permutations=256))
    assert (signatures(FILES, SECTION) == more[:, :128]).all()


def test_signatures_are_the_same_on_every_machine_and_with_every_numpy() -> None:
    rows = signatures(["def add(left, right):\n    return left + right  # the sum of both"], SECTION)
    assert rows.dtype == np.uint32
    assert rows[0, :4].tolist() == [448654582, 462108699, 626552894, 1045732212]
    assert band_hashes(rows, 14, 9)[:2, 0].tolist() == [13694541257106860137, 4995561654695681787]


def test_texts_added_one_by_one_are_signed_in_order() -> None:
    signer = Signer(SECTION)
    for text in FILES:
        signer.add(text)
    assert (signer.signatures() == signatures(FILES, SECTION)).all()
    assert (signer.signatures() == signatures(FILES, SECTION)).all()


@pytest.mark.parametrize(
    ("threshold", "permutations", "bands"),
    [
        (0.3, 128, (37, 3)),
        (0.5, 128, (25, 5)),
        (0.7, 128, (14, 9)),
        (0.85, 128, (8, 16)),
        (0.95, 128, (3, 42)),
        (0.7, 64, (8, 8)),
        (0.6, 256, (32, 8)),
        (0.7, 256, (25, 10)),
        (0.85, 256, (13, 19)),
    ],
)
def test_bands_are_those_that_datasketch_chooses(threshold: float, permutations: int, bands: tuple[int, int]) -> None:
    assert optimal_bands(threshold, permutations) == bands  # datasketch 2.0.0, MinHashLSH(threshold, num_perm)


def test_bands_that_must_not_miss_have_fewer_rows() -> None:
    assert optimal_bands(0.7, 128, missed=0.9) == (20, 6)  # datasketch 2.0.0, weights=(0.1, 0.9)


def test_bands_are_equal_where_their_rows_are() -> None:
    rows = np.random.default_rng(0).integers(0, 2**32, (1000, 12), dtype=np.uint32)
    rows[1::2, 4:8] = rows[::2, 4:8]
    hashes = band_hashes(rows, 3, 4)
    assert (hashes[1, ::2] == hashes[1, 1::2]).all()
    assert len(np.unique(hashes[1])) == 500
    assert len(np.unique(hashes[[0, 2]])) == 2000
    assert np.histogram(hashes[0].astype(float), 4, (0, 2.0**64))[0].min() > 200, "ranges of hashes divide the work"
