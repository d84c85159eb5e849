"""The data of a run: what the configuration says of mixtures, replay, streams and remote corpora is what is read."""

import dataclasses
import http.server
import json
import shutil
import textwrap
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from codelm.config.train import TrainConfig
from codelm.data.manifest import load_manifest, save_manifest
from codelm.data.reading.mixture import resolve_shares
from codelm.data.reading.stream import Collator, MixtureDataset
from codelm.errors import CheckpointError, ConfigError, DataError, EnvironmentFailure, TokenizerError
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.tokenizer import load_tokenizer
from codelm.tokenizer_training import train_tokenizer
from codelm.train.build import build_pieces
from codelm.train.composer_model import ComposerCausalLM
from codelm.train.data import build_training_data, data_plan
from codelm.train.run import train

Make = Callable[..., TrainConfig]


@pytest.fixture
def make(train_settings: dict[str, Any], train_config: Make) -> Make:
    """A configuration; keyword arguments replace keys of `train_data`, and `run` those of the top level."""

    def configured(run: dict[str, Any] | None = None, **changes: Any) -> TrainConfig:
        data = {"path": train_settings["train_data"]["path"], **changes}
        return train_config(**(run or {}), train_data=data)

    return configured


def dataset(config: TrainConfig) -> MixtureDataset:
    return build_training_data(config, load_tokenizer(config.tokenizer.path)).dataset


def counted(of: MixtureDataset, samples: int) -> Counter[str]:
    streams = of.order.locate(np.arange(samples)).streams
    return Counter(of.order.schedule.streams[number] for number in streams)


def plan(config: TrainConfig) -> str:
    pieces = build_pieces(config, 0, 1)
    return "\n".join(data_plan(config, pieces.data, pieces.batches))


def test_replay_mixes_a_second_corpus_at_its_share(make: Make, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(corpus, tmp_path / "old")
    replay = {"path": str(tmp_path / "old"), "share": 0.1, "mixture": {"c": 1.0}}
    config = make(mixture={"python": 3.0, "c": 1.0}, replay=replay)
    of = dataset(config)
    assert counted(of, 4000) == {"python": 2700, "c": 900, "replay/c": 400}
    rows = {stream: of.readers[number] for number, stream in enumerate(of.order.schedule.streams)}
    for position in range(40):
        stream, sample = of.locate(position)
        assert torch.equal(of[position], torch.from_numpy(rows[stream].read([sample]).tokens[0].astype(np.int64)))
    assert "replay/c 10.0% x" in plan(config)


def test_replay_must_be_of_the_same_tokenizer_and_length(make: Make, corpus: Path, tmp_path: Path) -> None:
    texts = [path.read_text() for path in Path(textwrap.__file__).parent.glob("t*.py")]
    train_tokenizer(texts, 512, tmp_path / "other")
    config = make(replay={"path": str(corpus), "share": 0.5})
    with pytest.raises(TokenizerError, match="another tokenizer than"):
        dataset(
            config.model_copy(
                update={"tokenizer": config.tokenizer.model_copy(update={"path": str(tmp_path / "other")})}
            )
        )
    shutil.copytree(corpus, tmp_path / "long")
    manifest = load_manifest(corpus)
    save_manifest(dataclasses.replace(manifest, max_seq_len=999), tmp_path / "long")
    length = rf"\(train_data\.replay\) hold samples of 999 tokens, .* {manifest.max_seq_len}; prepare that corpus again"
    with pytest.raises(DataError, match=length):
        dataset(make(replay={"path": str(tmp_path / "long"), "share": 0.5}))
    with pytest.raises(DataError, match=r"no prepared data at .*nowhere"):
        dataset(make(replay={"path": str(tmp_path / "nowhere"), "share": 0.5}))
    with pytest.raises(DataError, match=r"train_data\.replay\.mixture names rust, of which"):
        dataset(make(replay={"path": str(corpus), "share": 0.5, "mixture": {"rust": 1.0}}))


def test_temperature_and_upsampling_change_the_shares(make: Make, corpus: Path) -> None:
    samples = {language: info.samples for language, info in load_manifest(corpus).splits["train"].items()}
    of = dataset(make(mixture="corpus", temperature=2.0, streams={"c": {"upsample": 3.0}}))
    assert of.identity.mixture == resolve_shares("corpus", samples, "", 2.0, {"c": 3.0})


def test_a_limit_counts_in_the_corpus_mixture_and_in_the_passes(make: Make, corpus: Path) -> None:
    samples = {language: info.samples for language, info in load_manifest(corpus).splits["train"].items()}
    limits = {"c": 5, "python": 15}
    config = make(mixture="corpus", streams={stream: {"limit": limit} for stream, limit in limits.items()})
    of = dataset(config)
    assert of.identity.mixture == resolve_shares("corpus", {**samples, **limits}, "")
    assert len(of) == sum({**samples, **limits}.values()) // 4 * 4
    found = of.order.locate(np.arange(400))
    assert len(set(found.samples[found.streams == of.order.schedule.streams.index("c")].tolist())) == 5


def test_settings_for_a_stream_that_is_not_there_are_refused(make: Make) -> None:
    with pytest.raises(DataError, match=r"train_data\.streams names rust, which the mixture of .* does not hold"):
        dataset(make(streams={"rust": {"limit": 5}}))


def test_an_epoch_may_end_with_the_first_stream(make: Make) -> None:
    settings = {"mixture": {"c": 1.0, "python": 1.0}, "on_exhausted": "end_epoch"}
    of = dataset(make(**settings, streams={"c": {"limit": 10}}))
    twice = dataset(make(**settings, streams={"c": {"limit": 10, "repeat": 2}}))
    assert (len(of), len(twice)) == (20, 40)
    assert "an epoch ends after 5 batches, when c runs out; epochs: 2" in plan(
        make(**settings, streams={"c": {"limit": 10}})
    )


def test_a_run_that_would_pass_too_often_over_a_stream_is_refused(make: Make, corpus: Path) -> None:
    settings = {"mixture": {"c": 1.0, "python": 1.0}, "streams": {"c": {"limit": 4, "repeat": 4}}}
    assert "c 50.0% x4" in plan(make(**settings))
    with pytest.raises(
        ConfigError,
        match=r"train_data\.streams\.c\.repeat is 4, and 10 batches would pass over it 5 times; train 8 batches, lower",
    ):
        plan(make(run={"max_duration": "10ba"}, **settings))
    replay = {"path": str(corpus), "share": 0.5, "mixture": {"c": 1.0}, "streams": {"c": {"limit": 1, "repeat": 1}}}
    with pytest.raises(ConfigError, match=r"train_data\.replay\.streams\.c\.repeat is 1"):
        plan(make(mixture={"python": 1.0}, replay=replay))


def test_more_than_four_passes_are_warned_of(make: Make) -> None:
    text = plan(make(run={"max_duration": "20ba"}, mixture={"c": 1.0, "python": 1.0}, streams={"c": {"limit": 8}}))
    assert "more than 4 passes over c: repeated data teaches little beyond that" in text


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"temperature": 3.0}, "mixture was"),
        ({"streams": {"c": {"upsample": 2.0}}}, "mixture was"),
        ({"streams": {"c": {"limit": 7}}}, r"streams was \{\} and is now \{'c': \{'limit': 7\}\}"),
        ({"on_exhausted": "end_epoch"}, "on_exhausted was 'refill' and is now 'end_epoch'"),
        ({"shuffle_window": 2}, "shuffle_window was None and is now 2"),
        ({"fim": {"rate": 0.5}}, r"fim was None and is now \{'rate': 0.5, 'spm_rate': 0.5\}"),
    ],
)
def test_a_checkpoint_does_not_continue_on_other_data(make: Make, change: dict[str, Any], difference: str) -> None:
    mixture = {"mixture": {"python": 3.0, "c": 1.0}}
    state = dataset(make(**mixture)).state_dict(8, from_beginning=True)
    with pytest.raises(CheckpointError, match=f"the checkpoint cannot continue on this data: .*{difference}"):
        dataset(make(**mixture, **change)).load_state_dict(state)


def test_a_checkpoint_does_not_continue_with_another_replay(make: Make, corpus: Path) -> None:
    replay = {"path": str(corpus), "share": 0.5}
    state = dataset(make(replay=replay)).state_dict(8, from_beginning=True)
    with pytest.raises(CheckpointError, match=r"replay was \{'manifest_hash': '.*\} and is now None"):
        dataset(make()).load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"mixture was \{'c': .*, 'replay/c': "):
        dataset(make(replay={**replay, "share": 0.25})).load_state_dict(state)


def test_a_repeat_may_be_raised_in_a_run_that_refills(make: Make) -> None:
    state = dataset(make(streams={"c": {"repeat": 9}})).state_dict(8, from_beginning=True)
    dataset(make(streams={"c": {"repeat": 10}})).load_state_dict(state)
    dataset(make()).load_state_dict(state)


def test_middles_are_filled_in_by_position(make: Make) -> None:
    plain, filled, again = (dataset(make(**fim)) for fim in ({}, {"fim": {"rate": 1.0}}, {"fim": {"rate": 1.0}}))
    tokenizer = load_tokenizer(make().tokenizer.path)
    middle = tokenizer.special_ids["fim_middle"]
    assert not any((plain[position] == middle).any() for position in range(20))
    assert sum(bool((filled[position] == middle).any()) for position in range(20)) > 15
    assert all(torch.equal(filled[position], again[position]) for position in range(20))
    text = plan(make(fim={"rate": 1.0, "spm_rate": 0.25}))
    assert "fill in the middle: 100% of the documents, 25% of them suffix first; of " in text


# Remote corpora.


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url(corpus: Path) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(corpus))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_run_on_a_remote_corpus_is_that_on_the_local_one(make: Make, url: str, tmp_path: Path) -> None:
    """Each stream is one shard here, so that the window changes nothing; evaluation is remote as well."""
    cache = {"cache_folder": str(tmp_path / "cache")}
    held_out = {"heldout": {"path": url, "max_samples_per_language": 4}}
    here = train(make(run={"save_folder": str(tmp_path / "here")}, shuffle_window=8))
    there = train(make(run={"save_folder": str(tmp_path / "there"), "eval_data": held_out}, path=url, **cache))
    assert (here / "model.safetensors").read_bytes() == (there / "model.safetensors").read_bytes()
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".mds"}


def test_workers_read_a_remote_corpus_alike(make: Make, url: str, tmp_path: Path) -> None:
    batches = []
    for workers in (0, 2):
        config = make(path=url, cache_folder=str(tmp_path / f"cache{workers}"), num_workers=workers)
        loader = build_pieces(config, 0, 1).train_loader
        batches.append([batch["input_ids"] for batch, _ in zip(loader, range(5), strict=False)])
    assert all(torch.equal(one, other) for one, other in zip(*batches, strict=True))


def test_a_cache_too_small_for_the_windows_is_refused(make: Make, url: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train_data.cache_limit 1,000 is less than the [\d,]+ bytes .* 2 streams"):
        dataset(
            make(mixture={"c": 1.0, "python": 1.0}, path=url, cache_folder=str(tmp_path / "cache"), cache_limit=1000)
        )


def test_a_remote_corpus_that_is_not_there(make: Make, url: str, tmp_path: Path) -> None:
    cache = {"cache_folder": str(tmp_path / "cache")}
    with pytest.raises(DataError, match=r"there is no http://.*/nowhere/manifest\.json; correct the path"):
        dataset(make(path=f"{url}/nowhere", **cache))


def test_a_damaged_manifest_names_the_url(
    make: Make, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fsspec

    monkeypatch.setattr("time.sleep", lambda _: None)
    memory = fsspec.filesystem("memory")
    memory.pipe("/damaged/manifest.json", (corpus / "manifest.json").read_bytes()[:-100])
    try:
        with pytest.raises(DataError, match=r"memory://damaged/manifest\.json cannot be read"):
            dataset(make(path="memory://damaged", cache_folder=str(tmp_path / "cache")))
    finally:
        memory.rm("/damaged", recursive=True)


def test_a_cache_folder_that_cannot_be_made(make: Make, url: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentFailure, match=r"train_data.cache_folder .* cannot be used \(Not a directory\)"):
        dataset(make(path=url, cache_folder=str(tmp_path / "file" / "cache")))


@pytest.mark.parametrize("hf", [False, True])
def test_a_row_of_nothing_but_padding_has_no_loss_and_no_gradient(hf: bool) -> None:
    if hf:
        config = LlamaConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, vocab_size=40
        )
        model: Any = LlamaForCausalLM(config)
    else:
        model = ReplitCodeForCausalLM(
            ReplitCodeConfig(d_model=32, n_heads=4, n_layers=1, vocab_size=40, max_seq_len=16)
        )
    wrapped = ComposerCausalLM(model, torch.ones(40, dtype=torch.int32))
    batch = Collator(1)([torch.full((16,), 1)])
    loss = wrapped.loss(wrapped(batch), batch)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(p.grad is None or (p.grad == 0).all() for p in model.parameters())


def test_a_run_over_rows_without_loss_goes_on(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole microbatches have nothing to predict; what the others say counts as if these were not there."""

    def every_second(self: MixtureDataset, positions: list[int]) -> list[torch.Tensor]:
        row = torch.from_numpy(self.readers[0].read([0]).tokens[0].astype(np.int64))
        return [row if number % 2 else torch.full_like(row, eos) for number, _ in enumerate(positions)]

    config = make(
        run={"max_duration": "2ba", "save_interval": "2ba", "eval_data": {}, "device_train_microbatch_size": 1}
    )
    eos = load_tokenizer(config.tokenizer.path).eos_id
    monkeypatch.setattr(MixtureDataset, "__getitems__", every_second)
    assert train(config).name == "ba000002"


def test_a_global_batch_without_one_predicted_token_has_a_loss_of_zero(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make(run={"max_duration": "2ba", "save_interval": "2ba", "eval_data": {}})
    eos = load_tokenizer(config.tokenizer.path).eos_id
    monkeypatch.setattr(MixtureDataset, "__getitems__", lambda _, places: [torch.full((256,), eos)] * len(places))
    assert train(config).name == "ba000002"
    lines = [json.loads(line) for line in (Path(config.save_folder) / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss/train/total"] for line in lines if "loss/train/total" in line] == [0.0, 0.0]


def test_a_language_too_rare_for_its_corpus_does_not_stop_a_run(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    of = dataset(make(run={"global_train_batch_size": 1, "device_train_microbatch_size": 1}, temperature=0.05))
    assert of.order.schedule.streams == ("python",)
    assert "none is read: c, restructuredtext;" in caplog.text
