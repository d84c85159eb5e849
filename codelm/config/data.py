"""What a corpus is made from and how: the YAML of `data_prep/main.py`, a class for each section."""

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from codelm.config.cleaning import CleaningSections
from codelm.config.fields import LanguageName, Section, Seed, SeqLen
from codelm.config.licences import Licence
from codelm.config.suggest import closest

PositiveInt = Annotated[int, Field(gt=0)]


class CodeSource(Section):
    """A folder, or a git repository (bare or checked out), read as one repository or as a folder of repositories."""

    name: Literal["code"] = "code"
    path: str
    commit: str | None = None
    """For a git repository: the commit, branch or tag to read (default HEAD); a folder that is none has none."""
    submodules: bool = False
    """For a git repository: also read its checked-out submodules, each at the commit that the repository names."""
    repository: str | None = None
    """The name that provenance records; default: the source's key."""
    repository_per_folder: bool = False
    """Each folder directly below `path` is a repository of its own, and is recorded under its name."""
    licence: Licence | None = None
    """The SPDX id that provenance records; null means what is detected."""
    include: list[str] = Field(default_factory=list)
    """Glob patterns of paths inside the source; empty means all."""
    exclude: list[str] = Field(default_factory=list)
    """Glob patterns of paths inside the source."""


class ColumnsSection(Section):
    """The names of the columns of a table of files; a column that is absent leaves its field unknown."""

    text: str = "content"
    path: str = "path"
    repository: str = "repository"
    commit: str = "commit"
    licence: str = "licence"
    """An SPDX id, or a list of them."""
    language: str = "language"
    """A name of one of the 20 languages, such as `C++`; rows of others are left out."""
    blob: str = "blob"
    """Git's id of the contents; computed where it is absent."""


class RecordsSource(Section):
    """Files in the rows of JSON Lines or Parquet."""

    name: Literal["records"]
    files: Annotated[list[str], Field(min_length=1)]
    """Paths, glob patterns or URLs that fsspec opens (s3://, gs://, https://, memory://), ending in .jsonl, .jsonl.gz,
    .jsonl.zst or .parquet."""
    columns: ColumnsSection = ColumnsSection()
    language: LanguageName | None = None
    """Of every row; null takes the language column, or the extension of the path."""
    repository: str | None = None
    """The name that provenance records where the repository column is absent; default: the source's key."""
    licence: Licence | None = None
    limit: PositiveInt | None = None
    """The first n rows only."""


class HubSource(Section):
    """A dataset of the Hugging Face hub with Parquet files by language, such as bigcode/the-stack-dedup, streamed."""

    name: Literal["hf"]
    hf_name: str
    """Its id on the hub, or a local folder with the same files."""
    revision: str | None = None
    data_dir: str = "data/{language}"
    """Where a language's Parquet files are; `{language}` is The Stack's name of it, such as `c++`."""
    columns: ColumnsSection = ColumnsSection(
        path="max_stars_repo_path",
        repository="max_stars_repo_name",
        commit="max_stars_repo_head_hexsha",
        licence="max_stars_repo_licenses",
        language="lang",
        blob="hexsha",
    )
    """By default those of The Stack."""
    limit_per_language: PositiveInt | None = None
    """The first n rows of each language only."""


class InstructionsSource(Section):
    """Conversations to fine-tune on: JSON Lines with `prompt` and `response`, or `messages`. Loss on the answers."""

    name: Literal["instructions"]
    files: Annotated[list[str], Field(min_length=1)]
    """Paths, glob patterns or URLs that fsspec opens."""
    system_template: str = "{content}\n\n"
    user_template: str = "### Instruction:\n{content}\n\n### Response:\n"
    """How a turn of `messages` is written; `prompt` and `response` are taken as they are."""
    assistant_template: str = "{content}\n"
    """An answer: from its content on the loss is computed, with the end-of-text token after the last one."""
    repository: str | None = None
    licence: Licence | None = None
    limit: PositiveInt | None = None
    """The first n rows only."""

    @model_validator(mode="after")
    def _templates_hold_the_content_once(self) -> "InstructionsSource":
        for role in ("system", "user", "assistant"):
            if getattr(self, f"{role}_template").count("{content}") != 1:
                raise ValueError(f"{role}_template must hold `{{content}}` once, where the turn's text goes")
        return self


def _source_kind(value: object) -> str | None:
    """The `name`; without one `code`, but None where a key is another kind's, or a misspelt `name`."""
    if not isinstance(value, dict):
        return getattr(value, "name", "code")
    if "name" in value:
        return str(value["name"])
    others = {key for kind in (RecordsSource, HubSource, InstructionsSource) for key in kind.model_fields}
    unclear = any(key in others or closest(key, ["name"], limit=1) for key in value.keys() - CodeSource.model_fields)
    return None if unclear else "code"


SourceSection = Annotated[
    Annotated[CodeSource, Tag("code")]
    | Annotated[RecordsSource, Tag("records")]
    | Annotated[HubSource, Tag("hf")]
    | Annotated[InstructionsSource, Tag("instructions")],
    Discriminator(_source_kind),
]
"""Where documents come from; without a `name` it is `code`."""


class TrainTokenizerSection(Section):
    """Train a SentencePiece Unigram tokenizer on the corpus."""

    vocab_size: Annotated[int, Field(ge=300, le=65_536)] = 32_768
    sample_bytes: PositiveInt = 200_000_000
    """How much text is drawn from the training split, over all languages."""
    max_sentence_length: Annotated[int, Field(ge=10, le=1 << 30)] = 16_384
    """In bytes; longer files are cut into parts before a line's end (SentencePiece silently leaves out what is longer
    than its own default of 4,192, and fails on parts of some 100,000 characters without a space). It takes 10 to 2^30.
    """


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
    """What is held out. What is like a held-out file (of its cluster of near duplicates) is not trained on either."""

    off: ClassVar[str] = "{validation: 0}"

    by: Literal["file", "repository", "cluster", "time"] = "file"
    """What is drawn as a whole: a file (by a hash of its contents), a repository (of its name), a cluster of near
    duplicates; `time` holds out the files last changed after `since`."""
    validation: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """The share of files, repositories or clusters that losses are measured on."""
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """The share that no training run reads at all, kept for a final judgement."""
    held_out_repositories: list[str] = Field(default_factory=list)
    """Glob patterns of names of repositories that are held out as well."""
    since: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\d$")] | None = None
    """With `by: time`: a date such as 2026-01-31; files that git last saw changed on or after it are validation."""

    @model_validator(mode="after")
    def _time_needs_a_date(self) -> "SplitSection":
        if (self.by == "time") != (self.since is not None):
            raise ValueError("`by: time` and `since` (a date such as 2026-01-31) belong together")
        if self.since is not None:
            try:
                date.fromisoformat(self.since)
            except ValueError:
                raise ValueError(f"since: `{self.since}` is no day of the calendar") from None
        if self.validation + self.held_out >= 1:
            raise ValueError("validation and held_out leave nothing to train on; their sum must be below 1")
        return self


def _some_language(languages: list[str]) -> list[str]:
    if not languages:
        raise ValueError("names no language, so nothing would be kept; write null for all 20")
    return languages


class ContextSection(Section):
    """How much of its repository a document shows."""

    by_repository: bool = False
    """The files of a repository (of one language) follow one another as one document, in `order`."""
    order: Literal["path", "dependency", "random"] = "path"
    """dependency: imported files before those that import them."""
    path_comments: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The share of files that begin with a comment that holds their path."""


class DataConfig(CleaningSections):
    """A corpus: sources in, packed shards by language out."""

    run_name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    seed: Seed = 17
    sources: Annotated[dict[str, SourceSection], Field(min_length=1)]
    exclude_repositories: list[str] = Field(default_factory=list)
    """Glob patterns of names of repositories that nothing is taken from."""
    languages: Annotated[list[LanguageName], AfterValidator(_some_language)] | None = None
    """null means all 20."""
    notebooks: Literal["script", "structured"] = "script"
    """script: cells in the `# %%` form; structured: text, code and output cells between marks."""
    max_bytes_per_language: PositiveInt | None = None
    """Keep at most so much text of a language (files in the order of a seeded hash)."""
    split: SplitSection = SplitSection()
    tokenizer: DataTokenizerSection
    context: ContextSection = ContextSection()
    packing: Literal["concat", "best_fit"] = "concat"
    """concat: documents one after another, cut into rows; best_fit: as few documents cut as rows of max_seq_len allow,
    the rest of a row filled with end-of-text tokens, which have no loss."""
    max_seq_len: SeqLen
    shard_bytes: PositiveInt = 67_108_864
    output_folder: str
    engine: Literal["local", "ray", "slurm"] = "local"
    """local: processes on this machine; ray: the same work as Ray tasks; slurm: job scripts for a cluster."""
    num_workers: PositiveInt | None = None
    """Processes (local, null means one a core), tasks at once (ray, null means the cluster's cores), or array tasks
    (slurm, null means 64)."""
