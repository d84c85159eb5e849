"""From the configuration to the data of a run: corpora opened and checked, mixed, ordered, and read in batches."""

import functools
import logging
import math
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from codelm.config.train import TrainConfig
from codelm.config.training.data import DataSourceSection
from codelm.console import is_rank_zero
from codelm.data.reading.cache import DEFAULT_CACHE, ShardCache
from codelm.data.reading.corpus import DEFAULT_WINDOW, Corpus, check_cache_limit, open_corpus
from codelm.data.reading.fetch import is_remote
from codelm.data.reading.fim import Fim, FimCounts, FimSettings, measure
from codelm.data.reading.mixture import (
    REPLAY,
    Schedule,
    build_schedule,
    implied_epochs,
    resolve_shares,
    with_replay,
    without_rare,
)
from codelm.data.reading.order import Order, Passes, build_passes
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.reading.stream import (
    HeldOutDataset,
    MixtureDataset,
    StreamIdentity,
    eval_loader,
    train_loader,
)
from codelm.errors import ConfigError, DataError, EnvironmentFailure
from codelm.tokenizer import Tokenizer

log = logging.getLogger(__name__)

# Reading and hashing so much takes about ten seconds.
_HASH_AT_MOST = 10_000_000_000
_MANY_PASSES = 4
_FIM_TRIED = 100


@dataclass(frozen=True)
class TrainingData:
    """The training stream and what is known of it."""

    corpus: Corpus
    dataset: MixtureDataset
    schedule: Schedule
    samples: dict[str, int]
    """Samples in a pass over each stream of the mixture."""


def build_training_data(config: TrainConfig, tokenizer: Tokenizer) -> TrainingData:
    """Open the shards and lay the mixture over them.

    Raises:
        ConfigError, DataError, TokenizerError, EnvironmentFailure: with the sentence.
    """
    section, replay = config.train_data, config.train_data.replay
    main = _open_source(section, config, tokenizer, "train_data")
    shares, readers, passes, named = main.shares, main.readers, main.passes, main.named
    replayed = None
    if replay is not None:
        replayed = _open_source(replay, config, tokenizer, "train_data.replay")
        shares = with_replay(shares, replayed.shares, replay.share)
        readers |= {f"{REPLAY}{stream}": reader for stream, reader in replayed.readers.items()}
        passes |= {f"{REPLAY}{stream}": of for stream, of in replayed.passes.items()}
        named |= {f"{REPLAY}{stream}" for stream in replayed.named}
    shares = without_rare(shares, config.global_train_batch_size, named)
    readers, passes = {stream: readers[stream] for stream in shares}, {stream: passes[stream] for stream in shares}
    schedule = build_schedule(shares, config.global_train_batch_size, config.seed)
    ends_epoch = section.on_exhausted == "end_epoch"
    order = Order(schedule, passes, _repeats(config) if ends_epoch else None)
    if config.train_data.cache_limit is not None:
        check_cache_limit(shard_cache(config), _windows(passes, readers))
    identity = StreamIdentity(
        seed=config.seed,
        global_train_batch_size=config.global_train_batch_size,
        max_seq_len=config.max_seq_len,
        manifest_hash=main.corpus.manifest.hash,
        split=section.split,
        mixture=shares,
        replay=replayed and replayed.identity(),
        streams=_stream_settings(config, ends_epoch),
        on_exhausted=section.on_exhausted,
        shuffle_window=main.window,
        fim=section.fim and section.fim.model_dump(),
    )
    dataset = MixtureDataset(readers, order, identity, _fim(config, tokenizer))
    return TrainingData(main.corpus, dataset, schedule, {stream: passes[stream].size for stream in schedule.streams})


@dataclass(frozen=True)
class _Source:
    """One of the corpora that are mixed."""

    corpus: Corpus
    split: str
    window: int | None
    shares: dict[str, float]
    readers: dict[str, ShardReader]
    passes: dict[str, Passes]
    named: set[str]
    """The streams whose shares are written in the YAML."""

    def identity(self) -> dict[str, Any]:
        return {"manifest_hash": self.corpus.manifest.hash, "split": self.split, "shuffle_window": self.window}


def _open_source(section: DataSourceSection, config: TrainConfig, tokenizer: Tokenizer, key: str) -> _Source:
    corpus = open_checked(section.path, config, tokenizer, beside=None if key == "train_data" else key)
    limits = {stream: settings.limit for stream, settings in section.streams.items()}
    counts = {
        stream: min(count, limits.get(stream) or count) for stream, count in corpus.samples(section.split).items()
    }
    upsample = {stream: settings.upsample for stream, settings in section.streams.items()}
    shares = resolve_shares(section.mixture, counts, section.path, section.temperature, upsample, key)
    readers = {stream: corpus.reader(section.split, stream) for stream in shares}
    window = config.train_data.shuffle_window or (DEFAULT_WINDOW if is_remote(section.path) else None)
    passes: dict[str, Passes] = {
        stream: build_passes(f"{key}/{stream}", reader.shard_samples, config.seed, limits.get(stream), window)
        for stream, reader in readers.items()
    }
    named = set() if isinstance(section.mixture, str) else set(shares)
    return _Source(corpus, section.split, window, shares, readers, passes, named)


def open_checked(
    path: str, config: TrainConfig, tokenizer: Tokenizer, hashes: bool = True, beside: str | None = None
) -> Corpus:
    """The corpus at a path or URL, verified to be whole and made for this run's tokenizer and length.

    `hashes` also reads the shards of a local folder and compares their contents; remote ones are when they are fetched.
    `beside` is the key of a corpus that must follow the training data.

    Raises:
        DataError, TokenizerError: with the sentence.
    """
    corpus = open_corpus(path, functools.partial(shard_cache, config))
    manifest = corpus.manifest
    manifest.check_max_seq_len(config.max_seq_len, beside)
    manifest.check_tokenizer(tokenizer.fingerprint(), config.tokenizer.path, beside)
    if corpus.cache is not None:
        return corpus
    size = sum(s.bytes for streams in manifest.splits.values() for info in streams.values() for s in info.shards)
    if hashes and size > _HASH_AT_MOST:
        log.info("%s: %.0f GB of shards: sizes are checked, hashes are not", path, size / 1e9)
    # One rank reads every byte; the others trust it.
    manifest.check(path, hashes=hashes and is_rank_zero() and size <= _HASH_AT_MOST)
    return corpus


def shard_cache(config: TrainConfig) -> ShardCache:
    """Where this run keeps the shards that it fetches.

    Raises:
        EnvironmentFailure: the folder cannot be made.
    """
    folder = config.train_data.cache_folder or DEFAULT_CACHE
    try:
        return ShardCache(folder, config.train_data.cache_limit)
    except OSError as error:
        raise EnvironmentFailure(
            f"train_data.cache_folder {folder} cannot be used ({error.strerror}); name another"
        ) from None


def _fim(config: TrainConfig, tokenizer: Tokenizer) -> Fim | None:
    fim = config.train_data.fim
    return fim and Fim(tokenizer, FimSettings(fim.rate, fim.spm_rate), config.seed)


def _sections(config: TrainConfig) -> dict[str, Any]:
    """The sections of single streams, by the streams' names in the mixture."""
    replay = config.train_data.replay
    theirs = {} if replay is None else {f"{REPLAY}{stream}": section for stream, section in replay.streams.items()}
    return {**config.train_data.streams, **theirs}


def _repeats(config: TrainConfig) -> dict[str, int]:
    return {stream: section.repeat for stream, section in _sections(config).items() if section.repeat is not None}


def _stream_settings(config: TrainConfig, with_repeat: bool) -> dict[str, dict[str, int]]:
    """What decides the order besides the shares. Refilled streams are not ordered otherwise by their `repeat`."""
    keys = {"limit", "repeat"} if with_repeat else {"limit"}
    settings = {
        stream: section.model_dump(include=keys, exclude_none=True) for stream, section in _sections(config).items()
    }
    return {stream: settings[stream] for stream in sorted(settings) if settings[stream]}


def _windows(passes: dict[str, Passes], readers: dict[str, ShardReader]) -> dict[str, list[int]]:
    """The bytes of the shards in the largest window of each remote stream."""
    sizes = {stream: sorted(reader.remote_bytes, reverse=True) for stream, reader in readers.items()}
    return {stream: found[: passes[stream].window] for stream, found in sizes.items() if found}


def check_passes(config: TrainConfig, data: TrainingData, batches: int) -> None:
    """Refuse a run of so many batches that would pass over a refilled stream more often than its `repeat`.

    Raises:
        ConfigError: naming the stream, and what would fit.
    """
    if config.train_data.on_exhausted == "end_epoch":
        return
    epochs = implied_epochs(data.schedule, data.samples, batches * config.global_train_batch_size)
    for stream, repeat in _repeats(config).items():
        if epochs.get(stream, 0.0) > repeat:
            section, _, language = stream.rpartition("/")
            raise ConfigError(
                f"train_data.{section and f'{section}.'}streams.{language}.repeat is {repeat}, and {batches:,} batches"
                f" would pass over it {epochs[stream]:.3g} times; train {int(batches * repeat / epochs[stream]):,}"
                " batches, lower its share, or raise repeat"
            )


def build_train_loader(
    config: TrainConfig, data: TrainingData, tokenizer: Tokenizer, rank: int, world_size: int
) -> DataLoader:
    """The rank's loader.

    Raises:
        ConfigError: there are more ranks than samples.
    """
    samples = sum(data.samples.values())
    if samples < world_size:
        raise ConfigError(
            f"train_data: {config.train_data.path} has {samples} samples for {world_size} ranks, which would train on"
            " the same ones; prepare more data, or use fewer ranks"
        )
    return train_loader(data.dataset, tokenizer.eos_id, rank, world_size, config.train_data.num_workers)


def build_eval_loaders(config: TrainConfig, tokenizer: Tokenizer, rank: int, world_size: int) -> dict[str, DataLoader]:
    """A loader for each held-out set and language, labelled `language`, or `set/language` where there are several."""
    loaders: dict[str, DataLoader] = {}
    for name, section in config.eval_data.items():
        # The training data's folder has been read already.
        known = section.path == config.train_data.path
        corpus = open_checked(section.path, config, tokenizer, hashes=not known, beside=f"eval_data.{name}")
        counts = corpus.samples(section.split)
        wanted = section.languages or [language for language, count in counts.items() if count > 0]
        absent = [language for language in wanted if counts.get(language, 0) == 0]
        if absent or not wanted:
            raise DataError(
                f"eval_data.{name}: {section.path} has no {section.split} samples"
                + (f" of {', '.join(absent)}" if absent else "")
                + "; hold out more in data_prep (split.validation) or name other languages"
            )
        for language in sorted(wanted):
            label = language if len(config.eval_data) == 1 else f"{name}/{language}"
            dataset = HeldOutDataset(corpus.reader(section.split, language), section.max_samples_per_language)
            loaders[label] = eval_loader(dataset, config.device_eval_batch_size, tokenizer.eos_id, rank, world_size)
    return loaders


def data_plan(config: TrainConfig, data: TrainingData, batches: int) -> list[str]:
    """What the run will read, a line each: the mixture with implied epochs, and what is unusual of it."""
    epochs = implied_epochs(data.schedule, data.samples, batches * config.global_train_batch_size)
    shares = sorted(data.dataset.identity.mixture.items(), key=lambda item: -item[1])
    lines = [
        "mixture (share, passes over the data): "
        + ", ".join(f"{stream} {share:.1%} x{epochs[stream]:.2g}" for stream, share in shares)
    ]
    often = [stream for stream, count in epochs.items() if count > _MANY_PASSES]
    if often:
        lines.append(
            f"more than {_MANY_PASSES} passes over {', '.join(often)}: repeated data teaches little beyond that"
        )
    ending = data.dataset.order.ending_stream()
    if ending is not None:
        per_epoch = len(data.dataset) // config.global_train_batch_size
        epochs_begun = math.ceil(batches / per_epoch)
        lines.append(f"an epoch ends after {per_epoch:,} batches, when {ending} runs out; epochs: {epochs_begun}")
    fim = data.dataset.transform
    if isinstance(fim, Fim):
        lines.append(_fim_plan(fim, data))
    return lines


def _fim_plan(fim: Fim, data: TrainingData) -> str:
    """What filling in the middle does, tried on a few rows of every stream that is at hand."""
    local = [r for r in data.dataset.readers if isinstance(r, ShardReader) and not (r.remote_bytes or r.has_loss_mask)]
    counts = sum((measure(reader, fim, max(1, _FIM_TRIED // len(local))) for reader in local), FimCounts())
    tried = (
        f"; of {counts.tokens:,} tokens tried, {counts.tokens_added / counts.tokens:.2%} are added and"
        f" {counts.tokens_cut / counts.tokens:.2%} do not fit and are cut"
        if counts.tokens
        else ""
    )
    settings = fim.settings
    return (
        f"fill in the middle: {settings.rate:.0%} of the documents, {settings.spm_rate:.0%} of them suffix first{tried}"
    )
