"""Withdrawing repositories: nothing of theirs is left, and everything else is there to the token."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codelm.data.engines.local import whole_folder
from codelm.data.manifest import Manifest, load_manifest, save_manifest
from codelm.data.packing.pack import DOCUMENTS_FILE, make_packer, stream_info, summary_of
from codelm.data.packing.packers import TokenDocument
from codelm.data.packing.withdraw import withdraw
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.shards import ShardWriter
from codelm.errors import DataError
from codelm.tokenizer import CodeTokenizer
from codelm.tokenizer_training import train_tokenizer

LENGTH = 32
Corpus = dict[str, list[tuple[str, list[int], bool]]]
"""By stream: repositories, the tokens of each file, whether it has a loss mask."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> CodeTokenizer:
    texts = [path.read_text() for path in sorted((code_folder / "json").glob("*.py"))]
    return train_tokenizer(texts, 500, tmp_path_factory.mktemp("tokenizer"))


def write_corpus(folder: Path, tokenizer: CodeTokenizer, streams: Corpus, packing: Any, dtype: str = "uint16") -> None:
    rng = np.random.default_rng(0)
    splits: dict[str, dict] = {"train": {}, "validation": {}}
    with whole_folder(folder, folder.parent / "scratch") as filling:
        for name, documents in streams.items():
            split, language = name.split("/")
            masked = any(mask for _, _, mask in documents)
            writer = ShardWriter(filling / split / language, LENGTH, np.dtype(dtype), 1000, masked)
            with writer, (writer.folder / DOCUMENTS_FILE).open("w") as lines:
                packer = make_packer("best_fit" if masked else packing, writer, lines, tokenizer.eos_id)
                for number, (repository, sizes, _) in enumerate(documents):
                    tokens = rng.integers(20, tokenizer.vocab_size, sum(sizes)).astype(dtype)
                    tokens[-1] = tokenizer.eos_id
                    mask = (np.arange(sum(sizes)) >= sum(sizes) // 3).astype(np.uint8) if masked else None
                    files = [
                        {
                            "repository": repository,
                            "commit": None,
                            "path": f"{number}/{i}",
                            "licence": "MIT",
                            "blob": "b",
                            "source": "code",
                            "bytes": 3 * size,
                            "tokens": size,
                        }
                        for i, size in enumerate(sizes)
                    ]
                    packer.add(TokenDocument(tokens, files, mask))
                packer.finish()
            splits[split][language] = stream_info(summary_of(packer, writer))
        tokenizer.save(filling / "tokenizer")
        settings = {"packing": packing, "shard_bytes": 1000}
        manifest = Manifest("test", "1", settings, LENGTH, dtype, tokenizer.fingerprint(), splits, {})
        save_manifest(manifest, filling)


def make_streams(repositories: list[str], files: int = 80) -> Corpus:
    rng = np.random.default_rng(1)
    python = [
        (repositories[i % len(repositories)], [int(n) for n in rng.integers(1, 70, 1 + i % 3)], False)
        for i in range(files)
    ]
    talks = [(repositories[i % len(repositories)], [int(rng.integers(3, 60))], True) for i in range(files)]
    return {"train/python": python, "validation/python": python[:7], "train/sql": talks}


def contents(folder: Path, split: str, language: str) -> dict[tuple, list[tuple]]:
    """By repository, path and part: the tokens and mask as far as they were written."""
    reader = ShardReader(folder, split, language)
    rows = reader.read(range(len(reader)))
    stream = rows.tokens.reshape(-1)
    mask = np.ones_like(stream) if rows.loss_mask is None else rows.loss_mask.reshape(-1)
    found: dict[tuple, list[tuple]] = {}
    for line in (folder / split / language / DOCUMENTS_FILE).read_text().splitlines():
        fields = json.loads(line)
        place = slice(fields["start"], fields["start"] + fields["tokens"])
        key = (fields["repository"], fields["path"], fields.get("part", 0))
        assert key not in found
        found[key] = [tuple(stream[place].tolist()), tuple(mask[place].tolist())]
    return found


@pytest.mark.parametrize("packing", ["concat", "best_fit"])
@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_the_others_are_all_there_token_for_token(
    tmp_path: Path, tokenizer: CodeTokenizer, packing: str, dtype: str
) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_corpus(old, tokenizer, make_streams(["a/x", "a/y", "b/z"]), packing, dtype)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    done = withdraw(old, ["a/y"], new)
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    assert done.repositories == ("a/y",)
    manifest = load_manifest(new)
    manifest.check(new, hashes=True)
    assert manifest == done.manifest
    assert manifest.withdrawn == ("a/y",)
    assert manifest.tokenizer == tokenizer.fingerprint()
    for split, languages in manifest.splits.items():
        for language, info in languages.items():
            was, now = contents(old, split, language), contents(new, split, language)
            assert not any(repository == "a/y" for repository, _, _ in now)
            expected = {key: value for key, value in was.items() if key[0] != "a/y"}
            if packing == "best_fit" or language == "sql":
                assert now == expected
                assert info.samples * LENGTH == info.tokens + info.padding
                assert info.cut_documents == len({key[:2] for key in expected if key[2] == 1})
            else:
                # The ends of both streams may be in no row.
                unwritten = [key for key in expected if expected[key] != now.get(key)]
                assert unwritten == list(expected)[len(expected) - len(unwritten) :]
                assert sum(len(expected[key][0]) for key in unwritten) < 70 * 3 + LENGTH
                assert all(expected[key][0][: len(now[key][0])] == now[key][0] for key in now)
            assert info.files == len({key[:2] for key in now})
            assert info.licences == {"MIT": info.files}
            assert info.sources["code"].tokens == info.tokens
            files = [json.loads(line) for line in (new / split / language / DOCUMENTS_FILE).read_text().splitlines()]
            assert [fields["start"] for fields in files] == sorted(fields["start"] for fields in files)


def test_patterns_take_several(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    write_corpus(tmp_path / "old", tokenizer, make_streams(["a/x", "a/y", "b/[z]"]), "concat")
    done = withdraw(tmp_path / "old", ["a/*"], tmp_path / "new")
    assert done.repositories == ("a/x", "a/y")
    assert {key[0] for key in contents(tmp_path / "new", "train", "python")} == {"b/[z]"}
    # What is left can be withdrawn from, by a name that looks like a pattern; then nothing is left.
    with pytest.raises(DataError, match=r"without b/\[z\] nothing of .* is left to train on"):
        withdraw(tmp_path / "new", ["b/[z]"], tmp_path / "newer")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old", "scratch"]


def test_a_language_that_is_left_without_files_is_gone(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    streams = make_streams(["a"])
    streams["train/c"] = [("only", [200], False)]
    write_corpus(tmp_path / "old", tokenizer, streams, "best_fit")
    done = withdraw(tmp_path / "old", ["only"], tmp_path / "new")
    assert set(done.manifest.splits["train"]) == {"python", "sql"}
    assert not (tmp_path / "new" / "train" / "c").exists()
    assert (done.files, done.tokens) == (1, 200)


def test_files_that_were_never_written_are_counted(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    streams: Corpus = {
        "train/python": [("a", [40], False), ("b", [30], False), ("a", [5], False), ("a", [4, 4], False)]
    }
    write_corpus(tmp_path / "old", tokenizer, streams, "concat")
    # 83 tokens: two rows; the files from token 70 on are in none.
    done = withdraw(tmp_path / "old", ["b"], tmp_path / "new")
    assert done.unwritten_files == 3
    assert done.manifest.splits["train"]["python"].tokens == 40


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("team/servce", r"has no repository `team/servce`; did you mean team/service\?"),
        ("zzz", r"has no repository `zzz`; it has a, team/service"),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, tokenizer: CodeTokenizer, pattern: str, sentence: str) -> None:
    write_corpus(tmp_path / "old", tokenizer, make_streams(["team/service", "a"]), "concat")
    with pytest.raises(DataError, match=sentence):
        withdraw(tmp_path / "old", ["a", pattern], tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    write_corpus(tmp_path / "old", tokenizer, make_streams(["a", "b"]), "concat")
    for taken in (tmp_path / "old", tmp_path / "empty"):
        taken.mkdir(exist_ok=True)
        with pytest.raises(DataError, match="exists already"):
            withdraw(tmp_path / "old", ["a"], taken)


def test_a_list_that_is_missing_is_named(tmp_path: Path, tokenizer: CodeTokenizer) -> None:
    write_corpus(tmp_path / "old", tokenizer, make_streams(["a", "b"]), "concat")
    (tmp_path / "old" / "train" / "sql" / DOCUMENTS_FILE).unlink()
    with pytest.raises(DataError, match="without it nobody can say which tokens are of which repository"):
        withdraw(tmp_path / "old", ["a"], tmp_path / "new")


def spoil(folder: Path) -> None:
    file = folder / "train" / "python" / DOCUMENTS_FILE
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:3] + lines[4:]))


def test_a_copy_that_lost_a_document_is_thrown_away(
    tmp_path: Path, tokenizer: CodeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpus(tmp_path / "old", tokenizer, make_streams(["a", "b"]), "best_fit")
    copytree: Callable[..., Any] = shutil.copytree

    def copy_and_spoil(source: Path, target: Path) -> None:
        copytree(source, target)
        spoil(target.parent)

    monkeypatch.setattr("codelm.data.packing.withdraw.shutil.copytree", copy_and_spoil)
    with pytest.raises(DataError, match="the copy of train/python is not what it should be, and was thrown away"):
        withdraw(tmp_path / "old", ["a"], tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "scratch"]
