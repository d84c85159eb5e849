"""Any sample can be traced to its files, token for token."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codelm.config.data import DataConfig
from codelm.data.packing.trace import documents_of_sample
from codelm.data.prepare import prepare
from codelm.data.reading.shard_reader import ShardReader
from codelm.errors import DataError
from codelm.tokenizer import load_tokenizer


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
def test_the_parts_of_every_sample_are_text_of_their_files(
    data_config: Callable[..., DataConfig], code_folder: Path, packing: str
) -> None:
    config = data_config(languages=["c"], max_bytes_per_language=100_000, packing=packing)
    folder = prepare(config).folder
    tokenizer = load_tokenizer(folder / "tokenizer")
    reader = ShardReader(folder, "train", "c")
    assert len(reader) > 50
    for sample in range(len(reader)):
        row = reader[sample]
        parts = list(documents_of_sample(folder, "train", "c", sample, reader.max_seq_len))
        assert parts[0].first == 0
        assert packing == "best_fit" or parts[-1].end == reader.max_seq_len
        assert (row[parts[-1].end :] == tokenizer.eos_id).all()
        for part, following in zip(parts, [*parts[1:], None], strict=True):
            text = tokenizer.decode(row[part.first : part.end])
            assert text.strip("\ufffd") in (code_folder / part.path).read_bytes().decode()
            assert part.repository == "code"
            if following is not None:
                assert row[part.end - 1] == tokenizer.eos_id
                assert following.first == part.end


@pytest.mark.parametrize("padded", [False, True])
def test_a_sample_is_found_in_a_long_list(tmp_path: Path, padded: bool) -> None:
    """By halving, as by reading the list from its beginning."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "train" / "c"
    folder.mkdir(parents=True)
    length, place, expected = 32, 0, {}
    with (folder / "documents.jsonl").open("w") as lines:
        for number in range(3000):
            tokens = int(rng.integers(1, length + 1 if padded else 90))
            if padded and place % length + tokens > length:
                place += -place % length
            # Names of many lengths: lines do not begin at round places.
            fields = {"repository": "r", "commit": None, "path": f"{number}" * int(rng.integers(1, 40)), "blob": "b"}
            lines.write(json.dumps({**fields, "licence": None, "tokens": tokens, "start": place}) + "\n")
            for sample in range(place // length, (place + tokens - 1) // length + 1):
                first, end = max(place - sample * length, 0), min(place + tokens - sample * length, length)
                expected.setdefault(sample, []).append((fields["path"], first, end))
            place += tokens
    for sample in range(place // length + 3):
        found = documents_of_sample(tmp_path, "train", "c", sample, length)
        assert [(part.path, part.first, part.end) for part in found] == expected.get(sample, [])


def test_without_a_list_of_documents_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"documents\.jsonl is missing"):
        list(documents_of_sample(tmp_path, "train", "c", 0, 8))
