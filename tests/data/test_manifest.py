"""The manifest: it comes back, its hash follows what decides the samples, and damage is named."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from codelm.data.manifest import Manifest, StreamInfo, load_manifest, save_manifest
from codelm.data.shards import ShardWriter
from codelm.errors import DataError, TokenizerError
from codelm.tokenizer import Fingerprint

FINGERPRINT = Fingerprint("spiece.model", "a" * 64, "sentencepiece 0.2.1", "b" * 64, 400)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    with ShardWriter(tmp_path / "train" / "python", 16, np.dtype(np.uint16), 200) as writer:
        writer.write(np.arange(300, dtype=np.uint16))
    stream = StreamInfo(files=3, bytes=900, tokens=300, samples=writer.samples, shards=tuple(writer.shards))
    made = Manifest(
        run_name="mine",
        codelm_version="0",
        settings={"seed": 1},
        max_seq_len=16,
        dtype="uint16",
        tokenizer=FINGERPRINT,
        splits={"train": {"python": stream, "c": StreamInfo(1, 5, 3, 0, ())}, "validation": {}},
        dropped={"python": {"binary": 2}},
    )
    save_manifest(made, tmp_path)
    return made


def test_it_comes_back(manifest: Manifest, tmp_path: Path) -> None:
    assert load_manifest(tmp_path) == manifest
    assert json.loads((tmp_path / "manifest.json").read_text())["hash"] == manifest.hash
    load_manifest(tmp_path).check(tmp_path, hashes=True)


def test_languages_are_those_with_samples(manifest: Manifest) -> None:
    assert manifest.languages() == ["python"]
    assert manifest.languages("validation") == []


def test_its_hash_follows_the_samples_and_nothing_else(manifest: Manifest) -> None:
    same = [
        {"run_name": "other"},
        {"dropped": {}},
        {"settings": {}},
        {"tokenizer": dataclasses.replace(FINGERPRINT, library="sentencepiece 0.2.3")},
    ]
    other = [
        {"max_seq_len": 32},
        {"tokenizer": dataclasses.replace(FINGERPRINT, probe_sha256="c" * 64)},
        {"splits": {"train": {}, "validation": {}}},
    ]
    assert {dataclasses.replace(manifest, **change).hash for change in same} == {manifest.hash}
    assert len({manifest.hash, *(dataclasses.replace(manifest, **change).hash for change in other)}) == 4


def test_a_changed_byte_in_a_shard_is_named(manifest: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "train" / "python" / "shard.00001.mds"
    contents = bytearray(file.read_bytes())
    contents[-1] ^= 1
    file.write_bytes(contents)
    manifest.check(tmp_path)
    with pytest.raises(DataError, match=r"shard\.00001\.mds has other contents than its manifest says"):
        manifest.check(tmp_path, hashes=True)


def test_a_truncated_shard_is_named(manifest: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "train" / "python" / "shard.00000.mds"
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(DataError, match=r"shard\.00000\.mds is truncated"):
        manifest.check(tmp_path)


def test_another_tokenizer_is_refused(manifest: Manifest) -> None:
    manifest.check_tokenizer(dataclasses.replace(FINGERPRINT, library="sentencepiece 0.2.0"))
    other = dataclasses.replace(FINGERPRINT, model_sha256="d" * 64, vocab_size=512)
    with pytest.raises(TokenizerError, match=r"mine were made with another tokenizer than runs/x: .*dddddddddddd"):
        manifest.check_tokenizer(other, "runs/x")
    with pytest.raises(TokenizerError, match="prepare that corpus again with it"):
        manifest.check_tokenizer(other, "runs/x", "replay")


def test_another_row_length_is_refused(manifest: Manifest) -> None:
    manifest.check_max_seq_len(16)
    with pytest.raises(DataError, match="samples of 16 tokens, but max_seq_len is 2048; set max_seq_len=16"):
        manifest.check_max_seq_len(2048)
    with pytest.raises(DataError, match=r"mine \(replay\) .* is 2048; prepare that corpus again with 2048"):
        manifest.check_max_seq_len(2048, "replay")


def test_an_absent_manifest_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no prepared data at .*run data_prep/main\.py first"):
        load_manifest(tmp_path / "nowhere")
    (tmp_path / ".work").mkdir()
    with pytest.raises(DataError, match="has not finished: run the same"):
        load_manifest(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"x"', '{"format": 1}', '{"format": 1, "hash": "x"}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json .*prepare the data again"):
        load_manifest(tmp_path)


def test_a_manifest_of_another_format_is_refused(manifest: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))
    with pytest.raises(DataError, match="has format 99, but this codelm reads 2"):
        load_manifest(tmp_path)


def test_a_manifest_edited_by_hand_is_noticed(manifest: Manifest, tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text(file.read_text().replace('"max_seq_len": 16', '"max_seq_len": 32'))
    with pytest.raises(DataError, match="was changed after it was written"):
        load_manifest(tmp_path)
