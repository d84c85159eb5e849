"""Preparing a corpus: what comes out, that it is the same however it was made, and what is refused."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from codelm.config.cleaning import SecretsSection
from codelm.config.data import DataConfig
from codelm.data.licences.detect import file_licence
from codelm.data.manifest import load_manifest
from codelm.data.prepare import prepare
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.secrets.scanner import Scanner
from codelm.data.survey import survey
from codelm.errors import DataError, TokenizerError
from codelm.tokenizer import load_tokenizer
from codelm.tokenizer_training import train_tokenizer

MakeConfig = Callable[..., DataConfig]
SMALL = 150_000
"""Bytes of a partition: enough of them that workers overlap and kills fall between."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def documents(folder: Path, split: str, language: str) -> list[dict]:
    return [json.loads(line) for line in (folder / split / language / "documents.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, code_folder: Path) -> Path:
    """An uninterrupted preparation by one process."""
    folder = tmp_path_factory.mktemp("finished") / "output"
    prepare(make_config(code_folder, folder), partition_bytes=SMALL)
    return folder


def make_config(code_folder: Path, output: Path, **changes: object) -> DataConfig:
    settings = {
        "run_name": "test",
        "sources": {"code": {"path": str(code_folder), "licence": "PSF-2.0"}},
        "split": {"validation": 0.1},
        "tokenizer": {"train": {"vocab_size": 400, "sample_bytes": 150_000}},
        "max_seq_len": 64,
        "shard_bytes": 100_000,
        "output_folder": str(output),
        "num_workers": 1,
    }
    return DataConfig.model_validate({**settings, **changes})


def test_every_kept_file_is_in_its_samples_token_for_token(finished: Path, code_folder: Path) -> None:
    """Decoding a language's samples gives its files back, redacted, in order, up to the tail that filled no sample."""
    scanner = Scanner(SecretsSection())
    tokenizer = load_tokenizer(finished / "tokenizer")
    for split in ("train", "validation"):
        for language in ("python", "c"):
            reader = ShardReader(finished, split, language)
            stream = np.concatenate([reader[index] for index in range(len(reader))])
            expected: list[int] = []
            for document in documents(finished, split, language):
                assert document["start"] == len(expected)
                text = scanner.apply((code_folder / document["path"]).read_bytes().decode()).text
                assert text is not None
                ids = [*tokenizer.encode(text), tokenizer.eos_id]
                assert (len(ids), len(text.encode())) == (document["tokens"], document["bytes"])
                expected += ids
            assert len(stream) == len(expected) // 64 * 64
            np.testing.assert_array_equal(stream, expected[: len(stream)])
            assert (stream == tokenizer.eos_id).sum() >= len(documents(finished, split, language)) - 1


def test_the_manifest_counts_what_is_there(finished: Path) -> None:
    manifest = load_manifest(finished)
    manifest.check(finished, hashes=True)
    for split, languages in manifest.splits.items():
        for language, stream in languages.items():
            listed = documents(finished, split, language)
            assert stream.files == len(listed)
            assert stream.bytes == sum(document["bytes"] for document in listed)
            assert stream.tokens == sum(document["tokens"] for document in listed)
            assert stream.samples == len(ShardReader(finished, split, language)) == stream.tokens // 64
    assert manifest.tokenizer == load_tokenizer(finished / "tokenizer").fingerprint()
    assert manifest.dropped["python"]["duplicate"] >= 1
    assert not (finished / ".work").exists()


def test_provenance_names_every_document(finished: Path, code_folder: Path) -> None:
    listed = [d for split in ("train", "validation") for d in documents(finished, split, "python")]
    assert {(d["repository"], d["commit"], d["source"]) for d in listed} == {("code", None, "code")}
    for document in listed[::20]:
        text = (code_folder / document["path"]).read_bytes().decode()
        assert document["licence"] == file_licence(text, "PSF-2.0")
        asked = ["git", "hash-object", "--no-filters", str(code_folder / document["path"])]
        assert subprocess.run(asked, capture_output=True, text=True).stdout.strip() == document["blob"]


def test_no_file_is_on_both_sides(finished: Path) -> None:
    for language in ("python", "c"):
        sides = [{d["blob"] for d in documents(finished, split, language)} for split in ("train", "validation")]
        assert sides[0]
        assert sides[1]
        assert not sides[0] & sides[1]


@pytest.mark.parametrize(
    ("workers", "partition_bytes"), [(2, SMALL), (1, 10**9), pytest.param(3, 40_000, marks=pytest.mark.slow)]
)
def test_workers_and_partitions_do_not_change_a_byte(
    finished: Path, code_folder: Path, tmp_path: Path, workers: int, partition_bytes: int
) -> None:
    config = make_config(code_folder, tmp_path / "output", num_workers=workers)
    prepare(config, partition_bytes=partition_bytes)
    assert contents(tmp_path / "output") == contents(finished)


def test_another_seed_holds_out_other_files(finished: Path, code_folder: Path, tmp_path: Path) -> None:
    config = make_config(code_folder, tmp_path / "output", seed=18)
    prepare(config)
    paths = [
        {d["path"] for d in documents(folder, "validation", "python")} for folder in (finished, tmp_path / "output")
    ]
    assert paths[0] != paths[1]


def test_a_finished_corpus_is_reused(finished: Path, code_folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    for workers in (1, 4):
        again = prepare(make_config(code_folder, finished, num_workers=workers))
        assert again.reused
        assert again.manifest == load_manifest(finished)
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_other_settings_are_refused_with_the_difference(finished: Path, code_folder: Path) -> None:
    config = make_config(code_folder, finished, max_seq_len=128, languages=["python"])
    sentence = (
        r"finished corpus with other settings \(languages was null, now \[\"python\"\]; max_seq_len was 64, now 128\)"
    )
    for step in (prepare, survey):
        with pytest.raises(DataError, match=sentence):
            step(config)


def test_a_finished_corpus_with_a_damaged_shard_is_not_called_finished(
    finished: Path, code_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(finished, tmp_path / "output")
    shard = tmp_path / "output" / "train" / "c" / "shard.00000.mds"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DataError, match="is truncated"):
        prepare(make_config(code_folder, tmp_path / "output"))


PREPARE = """
import errno, json, os, signal, sys
from codelm.config.cleaning import SecretsSection
from codelm.config.data import DataConfig
from codelm.data.licences.detect import file_licence
from codelm.data.prepare import prepare
from codelm.errors import exit_on_error

output, moment, events = json.loads(sys.argv[1])["output_folder"], int(sys.argv[3]), 0

def count(event, arguments):
    global events
    writes = event == "os.rename" or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
    makes = event == "os.mkdir" and not os.path.isdir(arguments[0])
    if (writes or makes) and str(arguments[0]).startswith(output):
        events += 1
        if events == moment and "full" in sys.argv:
            raise OSError(errno.ENOSPC, "No space left on device", arguments[0])
        if events == moment:
            os.kill(os.getpid(), signal.SIGKILL)

@exit_on_error
def main():
    sys.addaudithook(count)
    prepare(DataConfig.model_validate(json.loads(sys.argv[1])), partition_bytes=int(sys.argv[2]))

if __name__ == "__main__":
    main()
"""
"""Prepares a corpus; when it is about to write, make or rename its n-th file, it kills itself with SIGKILL, or finds
the disk full."""


@pytest.mark.parametrize(("workers", "kills", "latest"), [pytest.param(1, 9, 60, marks=pytest.mark.slow), (2, 4, 15)])
def test_killed_at_any_moment_it_continues_to_the_same_bytes(
    finished: Path, code_folder: Path, tmp_path: Path, workers: int, kills: int, latest: int
) -> None:
    """One preparation is killed again and again; every run starts from what the ones before left."""
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    output = tmp_path / "output"
    command = [
        sys.executable,
        str(script),
        make_config(code_folder, output, num_workers=workers).model_dump_json(),
        str(SMALL),
    ]
    draw = random.Random(workers)
    for _ in range(kills):
        process = subprocess.Popen([*command, str(draw.randrange(1, latest))], stdout=subprocess.DEVNULL)
        assert process.wait() == -signal.SIGKILL
        assert not (output / "manifest.json").exists()
    subprocess.run([*command, "0"], check=True, stdout=subprocess.DEVNULL)
    assert contents(output) == contents(finished)


def test_workers_end_when_their_run_is_killed(code_folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    config = make_config(code_folder, tmp_path / "output", num_workers=2)
    process = subprocess.Popen([sys.executable, str(script), config.model_dump_json(), str(SMALL), "0"])
    try:
        while len(children := _children_of(process.pid)) < 2:
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
    process.wait()
    for child in children:
        _wait_for_end(child)


def _children_of(process: int) -> list[int]:
    listed = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout
    return [int(child) for child in listed.split()]


def _wait_for_end(process: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{process}").exists() and "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2]:
        assert time.monotonic() < deadline, "a worker outlived the run that was killed"
        time.sleep(0.01)


def test_a_half_finished_corpus_with_other_settings_is_refused(code_folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    half = make_config(code_folder, output, tokenizer={"train": {"vocab_size": 60_000, "sample_bytes": 50_000}})
    with pytest.raises(TokenizerError, match="texts are too few for a vocabulary of 60000; set vocab_size to at most"):
        prepare(half)
    with pytest.raises(DataError, match=r"half-finished corpus with other settings \(languages was null"):
        prepare(make_config(code_folder, output, languages=["c"]))
    # The tokenizer was never made, so its settings may still change: what was read and filtered is kept.
    assert not prepare(make_config(code_folder, output)).reused


def test_only_one_run_writes_a_folder(code_folder: Path, tmp_path: Path) -> None:
    config = make_config(code_folder, tmp_path / "output")

    def while_running(stage: str, done: int, total: int | None) -> None:
        if stage == "tokenise":
            with pytest.raises(DataError, match=r"another data_prep/main\.py is writing"):
                prepare(config)
            seen.append(stage)

    seen: list[str] = []
    prepare(config, while_running)
    assert seen


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"languages": ["java"]}, r"the corpus is empty: no file of the sources code .*language_not_chosen"),
        ({"filters": {"min_alphanumeric": 1.0}}, r"the corpus is empty.*few_letters"),
        ({"max_bytes_per_language": 1}, r"the corpus is empty.*over_limit"),
        ({"split": {"validation": 0.999999999}}, r"the corpus is empty.*held out"),
    ],
)
def test_an_empty_corpus_says_why_and_leaves_nothing(
    code_folder: Path, tmp_path: Path, changes: dict, sentence: str
) -> None:
    config = make_config(code_folder, tmp_path / "output", **changes)
    for step in (survey, prepare):
        with pytest.raises(DataError, match=sentence):
            step(config)
        assert not (tmp_path / "output").exists()


def test_an_empty_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"the corpus is empty.*no files found"):
        prepare(make_config(tmp_path / "nothing", tmp_path / "output"))
    assert not (tmp_path / "output").exists()


def test_a_folder_with_other_things_is_not_written_to(code_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty and holds no prepared data"):
        prepare(make_config(code_folder, tmp_path))
    with pytest.raises(DataError, match="is a file; name a folder"):
        prepare(make_config(code_folder, tmp_path / "notes.txt"))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_absent_tokenizer_is_noticed_before_anything_is_written(code_folder: Path, tmp_path: Path) -> None:
    config = make_config(code_folder, tmp_path / "output", tokenizer={"path": str(tmp_path / "nowhere")})
    for step in (survey, prepare):
        with pytest.raises(TokenizerError, match="there is no tokenizer at"):
            step(config)
    assert not (tmp_path / "output").exists()


def test_an_existing_tokenizer_is_copied_beside_the_shards(code_folder: Path, tmp_path: Path) -> None:
    given = train_tokenizer([(code_folder / "json" / "decoder.py").read_text()], 400, tmp_path / "given")
    prepared = prepare(
        make_config(code_folder, tmp_path / "output", tokenizer={"path": str(tmp_path / "given")}, languages=["c"])
    )
    assert prepared.manifest.tokenizer == given.fingerprint()
    assert load_tokenizer(tmp_path / "output" / "tokenizer").fingerprint() == given.fingerprint()


def test_a_survey_writes_nothing_and_foretells_what_is_kept(finished: Path, code_folder: Path, tmp_path: Path) -> None:
    found = survey(make_config(code_folder, tmp_path / "output"))
    manifest = load_manifest(finished)
    for split, languages in manifest.splits.items():
        assert found.kept[split] == {name: (stream.files, stream.bytes) for name, stream in languages.items()}
    assert found.dropped == manifest.dropped
    assert list(tmp_path.iterdir()) == []


def test_a_limit_holds_in_the_shards(code_folder: Path, tmp_path: Path) -> None:
    manifest = prepare(make_config(code_folder, tmp_path / "output", max_bytes_per_language=200_000)).manifest
    for language in ("python", "c"):
        size = sum(split[language].bytes for split in manifest.splits.values() if language in split)
        assert 100_000 < size <= 200_000
        assert manifest.dropped[language]["over_limit"] > 0


@pytest.mark.parametrize("moment", [9, 47, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 20, 33, 60))])
def test_a_full_disk_stops_it_in_one_sentence_and_it_continues_when_there_is_room(
    finished: Path, code_folder: Path, tmp_path: Path, moment: int
) -> None:
    script = tmp_path / "prepare.py"
    script.write_text(PREPARE)
    output = tmp_path / "output"
    config = make_config(code_folder, output)
    command = [sys.executable, str(script), config.model_dump_json(), str(SMALL), str(moment), "full"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("error: the disk is full while writing ")
    assert result.stderr.count("\n") == 1
    assert not (output / "manifest.json").exists()
    for split in ("train", "validation"):
        for folder in output.glob(f"{split}/*"):
            assert (folder / "index.json").exists()
    prepare(config, partition_bytes=SMALL)
    assert contents(output) == contents(finished)


def test_a_corpus_shorter_than_one_sample_is_refused(data_config, tmp_path):
    config = data_config(max_seq_len=10_000_000, output_folder=str(tmp_path / "short"))
    with pytest.raises(DataError, match="no language has 10000000 tokens to train on, not one sample; add sources"):
        prepare(config)
    assert not (tmp_path / "short" / "manifest.json").exists()
