"""What a corpus is made from and how: the YAML of `data_prep/main.py`, a class for each section."""

from typing import Annotated

from pydantic import Field, model_validator

from codelm.config.fields import LanguageName, Section, Seed, SeqLen

PositiveInt = Annotated[int, Field(gt=0)]


class SourceSection(Section):
    """A folder, or a git repository (bare or checked out), read as one repository or as a folder of repositories."""

    path: str
    commit: str | None = None
    """For a git repository: the commit, branch or tag to read (default HEAD); a folder that is none has none."""
    repository: str | None = None
    """The name that provenance records; default: the source's key."""
    repository_per_folder: bool = False
    """Each folder directly below `path` is a repository of its own, and is recorded under its name."""
    licence: str | None = None
    """The SPDX id that provenance records; null means unknown."""
    include: list[str] = Field(default_factory=list)
    """Glob patterns of paths inside the source; empty means all."""
    exclude: list[str] = Field(default_factory=list)
    """Glob patterns of paths inside the source."""


class FiltersSection(Section):
    """Files outside these bounds are dropped, and counted by reason."""

    max_file_bytes: PositiveInt = 1_000_000
    max_line_length: PositiveInt = 1000
    """In characters; Markdown, reStructuredText, SQL, R and notebooks have no line limits."""
    max_mean_line_length: Annotated[float, Field(gt=0)] = 100.0
    min_alphanumeric: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The least share of letters and digits among the characters."""
    drop_vendored: bool = True
    """Judged by the path inside the repository: node_modules, third_party, vendor …"""
    drop_generated: bool = True
    drop_duplicates: bool = True
    """Files with the same bytes as one already taken, across sources."""


class TrainTokenizerSection(Section):
    """Train a SentencePiece Unigram tokenizer on the corpus."""

    vocab_size: Annotated[int, Field(ge=300, le=65_536)] = 32_768
    sample_bytes: PositiveInt = 200_000_000
    """How much text is drawn from the training split, over all languages."""
    max_sentence_length: PositiveInt = 16_384
    """In bytes; longer files are cut into parts before a line's end (SentencePiece silently leaves out what is longer
    than its own default of 4,192, and fails on parts of some 100,000 characters without a space)."""


class DataTokenizerSection(Section):
    """An existing tokenizer by `path`, or one trained here by `train`."""

    path: str | None = None
    """A folder with `spiece.model` or `tokenizer.json`."""
    train: TrainTokenizerSection | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> "DataTokenizerSection":
        if (self.path is None) == (self.train is None):
            raise ValueError("give either `path` (an existing tokenizer) or `train` (train one on this corpus)")
        return self


class SplitSection(Section):
    """Which files are held out; decided by a hash of the file's contents, so that it never depends on the order."""

    validation: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """The share of files."""


class DataConfig(Section):
    """A corpus: sources in, packed shards by language out."""

    run_name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    seed: Seed = 17
    sources: Annotated[dict[str, SourceSection], Field(min_length=1)]
    languages: list[LanguageName] | None = None
    """null means all 20."""
    max_bytes_per_language: PositiveInt | None = None
    """Keep at most so much text of a language (files in the order of a seeded hash)."""
    filters: FiltersSection = FiltersSection()
    split: SplitSection = SplitSection()
    tokenizer: DataTokenizerSection
    max_seq_len: SeqLen
    shard_bytes: PositiveInt = 67_108_864
    output_folder: str
    num_workers: PositiveInt | None = None
    """Processes; null means one a core."""
