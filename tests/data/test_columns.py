"""The numbers that a corpus is decided on, by partition on disk."""

import numpy as np
import pytest

from codelm.data.columns import STREAMS, UNKNOWN_TIME, ColumnsWriter, concatenate, load_columns


@pytest.fixture
def folders(tmp_path):
    made = []
    for part in range(3):
        writer = ColumnsWriter()
        for index in range(part * 2):
            digest = bytes([part, index] * 8)
            writer.add(digest, 10 + index, "python", f"team/repo-{part}", None if index else 7, 2)
        folder = tmp_path / f"{part}"
        folder.mkdir()
        writer.save(folder)
        made.append(folder)
    return made


def test_partitions_follow_one_another(folders):
    columns, start = load_columns(folders)
    assert start.tolist() == [0, 0, 2, 6]
    assert len(columns) == 6
    assert columns.changed.tolist() == [7, UNKNOWN_TIME, 7, UNKNOWN_TIME, UNKNOWN_TIME, UNKNOWN_TIME]
    assert {STREAMS[code] for code in columns.language} == {"python"}
    assert columns.digest[2].tobytes() == bytes([2, 0] * 8)


def test_repositories_are_found_by_patterns_of_their_names(folders):
    columns, _ = load_columns(folders)
    assert columns.repositories_matching(["team/repo-2"]).tolist() == [False] * 2 + [True] * 4
    assert columns.repositories_matching(["team/*"]).all()
    assert not columns.repositories_matching(["other/*"]).any()


def test_nothing_has_no_rows():
    columns, start = concatenate([])
    assert (len(columns), start.tolist()) == (0, [0])
    assert columns.digest.shape == (0, 2)
    assert columns.repository.dtype == np.uint64
