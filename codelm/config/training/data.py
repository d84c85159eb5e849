"""What is trained and validated on."""

from typing import Annotated, Literal

from pydantic import Field

from codelm.config.fields import Fraction, Mixture, PositiveInt, Section, StreamName


class TokenizerSection(Section):
    """The tokenizer that the shards were made with."""

    path: str
    """A folder with `spiece.model` (written by data_prep) or `tokenizer.json` (of a transformers model)."""


class StreamSection(Section):
    """One stream (a language, or `instructions`) of the training data."""

    upsample: Annotated[float, Field(gt=0)] = 1.0
    """Multiplies the stream's share before the shares are brought to a sum of 1."""
    limit: PositiveInt | None = None
    """Only so many of its samples, always the same ones, chosen by the seed; null means all."""
    repeat: PositiveInt | None = None
    """The passes after which it has run out. null: one with on_exhausted=end_epoch, any number with refill."""


class DataSourceSection(Section):
    """A prepared corpus and how its streams are mixed."""

    path: str
    """The output folder of data_prep, or where it was uploaded: s3://…, gs://…, https://…"""
    split: str = "train"
    mixture: Mixture = "corpus"
    """A child YAML's mixture replaces its parent's."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    """T makes a share p of the mixture p^(1/T): above 1 rare languages come more often."""
    streams: dict[StreamName, StreamSection] = Field(default_factory=dict, json_schema_extra={"default": {}})


class ReplaySection(DataSourceSection):
    """A second corpus, usually what the model was trained on before; its streams are called `replay/<language>`."""

    share: Annotated[float, Field(gt=0, lt=1)]
    """Of all training samples. 0.01 already helps; 0.05 to 0.25 where the new data is very different."""


class FimSection(Section):
    """Fill in the middle, made when a sample is read; instruction data is left as it is."""

    rate: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of the documents."""
    spm_rate: Fraction = 0.5
    """Of those, the share in the order suffix, prefix, middle; the others are prefix, suffix, middle."""


class TrainDataSection(DataSourceSection):
    """Where the training batches come from."""

    replay: ReplaySection | None = None
    on_exhausted: Literal["refill", "end_epoch"] = "refill"
    """refill: a stream that has run out starts again in a new order. end_epoch: the epoch ends before one runs out."""
    fim: FimSection | None = None
    shuffle_window: PositiveInt | None = None
    """Shuffle shards, and samples within so many of them; null: 8 for a remote corpus, all samples for a local one."""
    cache_folder: str | None = None
    """Where shards of a remote corpus are kept; null means ~/.cache/codelm/shards."""
    cache_limit: PositiveInt | None = None
    """Bytes that the cache may hold; the shards used longest ago make room. null means no limit."""
    num_workers: Annotated[int, Field(ge=0)] = 0


class EvalDataSection(Section):
    """One held-out set; every language of it gets its own loss and bits per byte."""

    path: str
    """As train_data.path; a remote one shares train_data's cache."""
    split: str = "validation"
    languages: list[StreamName] | None = None
    """null means all that are there."""
    max_samples_per_language: PositiveInt | None = None
