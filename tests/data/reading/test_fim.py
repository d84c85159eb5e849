"""Fill in the middle: nothing of a document is lost or moved, every worker makes the same row, epochs differ."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codelm.data.reading.fim import Fim, FimCounts, FimSettings, measure
from codelm.errors import TokenizerError
from codelm.tokenizer import CodeTokenizer
from codelm.tokenizer_training import train_tokenizer

LENGTH = 512
SEED = 5


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> CodeTokenizer:
    texts = [path.read_text() for path in sorted((code_folder / "asyncio").glob("*.py"))]
    return train_tokenizer(texts, 600, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def rows(tokenizer: CodeTokenizer, code_folder: Path) -> np.ndarray:
    """Rows of real files, cut anywhere."""
    ids: list[int] = []
    for path in sorted((code_folder / "json").glob("*.py")) + sorted((code_folder / "asyncio").glob("*.py"))[:8]:
        for part in path.read_text().split("\n\n\n"):
            ids += [*tokenizer.encode(part), tokenizer.eos_id]
    return np.array(ids[: len(ids) // LENGTH * LENGTH], dtype=np.uint16).reshape(-1, LENGTH)


def make_row(tokenizer: CodeTokenizer, texts: list[str], padding: int = 0) -> np.ndarray:
    ids = [i for text in texts for i in [*tokenizer.encode(text), tokenizer.eos_id]]
    return np.array(ids + [tokenizer.eos_id] * padding, dtype=np.uint16)


def undo(tokenizer: CodeTokenizer, ids: list[int]) -> str:
    """The text of a segment, put together again from its three parts; untransformed ones as they are."""
    prefix, suffix, middle = (tokenizer.special_ids[name] for name in ("fim_prefix", "fim_suffix", "fim_middle"))
    if prefix not in ids:
        return tokenizer.decode(ids)
    assert [i for i in ids if i in (prefix, suffix, middle)] == [prefix, suffix, middle]
    assert ids[0] == prefix
    at_suffix, at_middle = ids.index(suffix), ids.index(middle)
    if at_suffix > 1:
        before, after, inside = ids[1:at_suffix], ids[at_suffix + 1 : at_middle], ids[at_middle + 1 :]
        return tokenizer.decode(before) + tokenizer.decode(inside) + tokenizer.decode(after)
    # SPM, or PSM with nothing in front: the middle follows in both.
    return tokenizer.decode(ids[at_middle + 1 :]) + tokenizer.decode(ids[at_suffix + 1 : at_middle])


def split(tokenizer: CodeTokenizer, row: np.ndarray) -> list[list[int]]:
    ends = np.flatnonzero(row == tokenizer.eos_id)
    parts = np.split(row, ends + 1)
    return [part[part != tokenizer.eos_id].tolist() for part in parts]


TEXT = st.text(alphabet=st.sampled_from("abc def()\n\t:=é→🙂\u2581"), min_size=1, max_size=60)


@given(st.lists(TEXT, min_size=1, max_size=4), st.integers(0, 10**12), st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_with_room_at_the_end_every_document_can_be_put_together_again(
    tokenizer: CodeTokenizer, texts: list[str], position: int, spm_rate: float
) -> None:
    row = make_row(tokenizer, texts, padding=400)
    fim = Fim(tokenizer, FimSettings(1.0, spm_rate), SEED)
    made, counts = fim.apply(row, position)
    assert (made.shape, made.dtype) == (row.shape, row.dtype)
    assert [undo(tokenizer, part) for part in split(tokenizer, made)[: len(texts)]] == texts
    assert counts.documents == len(texts)
    assert counts.tokens_cut == 0
    assert (made == tokenizer.eos_id).sum() == (row == tokenizer.eos_id).sum() - counts.tokens_added


def test_without_room_only_context_of_the_same_document_is_cut(tokenizer: CodeTokenizer, rows: np.ndarray) -> None:
    fim = Fim(tokenizer, FimSettings(0.5, 0.5), SEED)
    prefix, middle = tokenizer.special_ids["fim_prefix"], tokenizer.special_ids["fim_middle"]
    total = FimCounts()
    for position, row in enumerate(rows):
        made, counts = fim.apply(row, position)
        total += counts
        assert len(made) == len(row)
        before, after = split(tokenizer, row), split(tokenizer, made)
        missing = 0
        for was, now in zip(before, after, strict=True):
            if prefix not in now:
                assert was == now
                continue
            whole = tokenizer.decode(was)
            here = now[now.index(middle) + 1 :]
            assert tokenizer.decode(here).strip("\ufffd") in whole, "the middle is whole"
            missing += len(was) - (len(now) - 3)
        assert counts.transformed == sum(prefix in part for part in after)
        assert missing == 3 * counts.transformed - counts.tokens_added + counts.tokens_cut
    assert 0.4 < total.transformed / total.documents < 0.6
    assert total.tokens_added >= total.tokens_cut > 0
    assert total.tokens_cut < 0.05 * total.tokens


def test_a_row_is_a_function_of_seed_and_position(tokenizer: CodeTokenizer, rows: np.ndarray) -> None:
    row = rows[:20].reshape(-1)
    before = row.copy()
    makers = [Fim(tokenizer, FimSettings(), SEED) for _ in range(2)]
    one = [makers[0].apply(row, position)[0].tolist() for position in range(20)]
    # Whatever was made in between, and with a position from numpy.
    other = [makers[1].apply(row, np.int64(position))[0].tolist() for position in reversed(range(20))][::-1]  # type: ignore[arg-type]
    assert one == other
    assert len({tuple(made) for made in one}) > 15, "epochs differ"
    assert Fim(tokenizer, FimSettings(), SEED + 1).apply(row, 0)[0].tolist() != one[0]
    np.testing.assert_array_equal(row, before)


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_the_rate_is_the_share_of_documents(tokenizer: CodeTokenizer, rows: np.ndarray, rate: float) -> None:
    fim = Fim(tokenizer, FimSettings(rate), SEED)
    total = FimCounts()
    for position in range(len(rows) * 3):
        total += fim.apply(rows[position % len(rows)], position)[1]
    assert total.documents > 500
    # Segments of a token or two, without context to cut, stay as they are.
    assert rate - 0.05 < total.transformed / total.documents < rate + 0.05


@pytest.mark.parametrize("spm_rate", [0.0, 0.3, 1.0])
def test_the_share_of_spm_is_kept(tokenizer: CodeTokenizer, rows: np.ndarray, spm_rate: float) -> None:
    fim = Fim(tokenizer, FimSettings(1.0, spm_rate), SEED)
    prefix, suffix = tokenizer.special_ids["fim_prefix"], tokenizer.special_ids["fim_suffix"]
    made = np.concatenate([fim.apply(row, position)[0] for position, row in enumerate(rows)])
    begins = np.flatnonzero(made == prefix)
    spm = made[begins + 1] == suffix
    # A PSM without a prefix looks the same.
    assert spm_rate <= spm.mean() + 0.1
    assert spm.mean() < spm_rate + 0.1


def test_a_row_cut_inside_a_character_is_left_as_it_is(tokenizer: CodeTokenizer) -> None:
    ids = tokenizer.encode("x = '🙂' + y\n")
    cut = next(n for n in range(len(ids)) if "\ufffd" in tokenizer.decode(ids[n:]))
    row = np.array([*ids[cut:], tokenizer.eos_id], dtype=np.uint16)
    made, counts = Fim(tokenizer, FimSettings(1.0), SEED).apply(row, 0)
    np.testing.assert_array_equal(made, row)
    assert (counts.documents, counts.transformed) == (1, 0)


def test_padding_and_empty_rows_are_no_documents(tokenizer: CodeTokenizer) -> None:
    row = np.full(64, tokenizer.eos_id, dtype=np.uint32)
    made, counts = Fim(tokenizer, FimSettings(1.0), SEED).apply(row, 0)
    np.testing.assert_array_equal(made, row)
    assert counts == FimCounts(tokens=64)


def test_the_files_of_a_repository_are_filled_in_one_by_one(tokenizer: CodeTokenizer) -> None:
    special = tokenizer.special_ids
    name, texts = "owner/name", ["a.py\nimport b\nprint(b.c)\n", "b.py\nc = 1\nd = 2\n"]
    ids = [special["repo_name"], *tokenizer.encode(name)]
    for text in texts:
        ids += [special["file_sep"], *tokenizer.encode(text)]
    row = np.array(ids + [tokenizer.eos_id] * 60, dtype=np.uint16)
    for position in range(30):
        made, counts = Fim(tokenizer, FimSettings(1.0), SEED).apply(row, position)
        assert counts.documents == 2
        begin, *files = np.split(made, np.flatnonzero(made == special["file_sep"]))
        assert begin.tolist() == ids[: len(begin)]
        for text, file in zip(texts, files, strict=True):
            rest = [i for i in file[1:].tolist() if i != tokenizer.eos_id]
            assert undo(tokenizer, rest) == text
            if special["fim_prefix"] in rest and rest[1] != special["fim_suffix"]:
                assert tokenizer.decode(rest[1:]).startswith(text[:5]), "the path stays in front"


def test_measuring_says_what_is_cut(tokenizer: CodeTokenizer, rows: np.ndarray) -> None:
    fim = Fim(tokenizer, FimSettings(), SEED)
    counts = measure(list(rows), fim, rows=10)
    assert counts.tokens == 10 * LENGTH
    assert 0 < counts.transformed < counts.documents
    assert measure(list(rows), fim, rows=10) == counts
    assert measure([], fim) == FimCounts()


def test_a_tokenizer_without_the_pieces_is_refused(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["def f(x):\n    return x\n" * 50], 287, tmp_path)
    del tokenizer.special_ids["fim_middle"]
    with pytest.raises(TokenizerError, match=r"has no piece <fim_middle>; take fim out, or prepare"):
        Fim(tokenizer, FimSettings(), SEED)
