"""What is kept of a corpus: the sections on filters, licences, secrets, duplicates and evaluation problems."""

from typing import Annotated, Literal

from pydantic import Field

from codelm.config.fields import Section

PositiveInt = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class FiltersSection(Section):
    """Files outside these bounds are dropped, and counted by reason."""

    max_file_bytes: PositiveInt = 1_000_000
    max_line_length: PositiveInt = 1000
    """In characters; Markdown, reStructuredText, SQL, R and notebooks have no line limits."""
    max_mean_line_length: Annotated[float, Field(gt=0)] = 100.0
    min_alphanumeric: Share = 0.25
    """The least share of letters and digits among the characters."""
    drop_vendored: bool = True
    """Judged by the path inside the repository: node_modules, third_party, vendor …"""
    drop_generated: bool = True


class LicencesSection(Section):
    """The licence of each file, by its header or else its repository, and which ones are kept."""

    detect: bool = True
    """Look for SPDX tags and licence texts; false takes the sources' `licence` alone."""
    keep: Literal["all", "permissive"] | list[str] = "all"
    """`permissive` is the preset of docs/data.md; a list holds SPDX ids."""
    unknown: Literal["keep", "drop"] = "keep"
    """What becomes of files whose licence is not known, when `keep` is not `all`."""


SecretKind = Literal[
    "age", "anthropic", "artifactory", "atlassian", "aws", "azure", "cloudant", "databricks", "digitalocean", "discord",
    "docker", "doppler", "email", "facebook", "github", "gitlab", "google", "grafana", "heroku", "huggingface", "ibm",
    "ip", "jwt", "linear", "mailchimp", "mailgun", "newrelic", "npm", "openai", "password", "postman", "private_key", "pypi",
    "random_string", "rubygems", "secret", "sendgrid", "shopify", "slack", "softlayer", "square", "stripe", "telegram",
    "twilio", "url_password", "vault",
]  # fmt: skip


class SecretsSection(Section):
    """Keys, tokens, passwords, e-mail and IP addresses, found before anything is written to disk (docs/secrets.md)."""

    policy: Literal["redact", "drop-file", "report", "off"] = "redact"
    """redact puts a placeholder in their place, drop-file leaves the file out, report only counts."""
    personal: Literal["redact", "drop-file", "report", "off"] = "redact"
    """The same for `email` and `ip`: a copyright line's address need not cost the file."""
    ignore: list[SecretKind] = Field(default_factory=list)
    """Kinds that are not looked for, such as `email`."""


class NearDuplicatesSection(Section):
    """MinHash over token n-grams: files more alike than `threshold` form a cluster, of which the best is kept."""

    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.7
    """Of the Jaccard similarity of the sets of n-grams."""
    num_permutations: Annotated[int, Field(ge=16, le=1024)] = 128
    """Entries of a signature, of four bytes each on disk; the similarity's standard error is at most 0.5 / sqrt of it."""
    ngram: PositiveInt = 5
    """Tokens (runs of letters, digits and underscores) in a row; a file is the set of its n-grams."""
    min_tokens: PositiveInt = 10
    """Shorter files are compared by their bytes alone."""
    verify: bool = True
    """Join two files only when their signatures agree in a share of `threshold`; false joins all that share a band."""


class DedupSection(Section):
    """Copies across all sources."""

    exact: bool = True
    """Files with the same bytes as one already taken."""
    near: NearDuplicatesSection | None = NearDuplicatesSection()


class DecontaminationSection(Section):
    """Files that hold problems or solutions which models are judged on are dropped."""

    benchmarks: list[str] = Field(default_factory=lambda: ["humaneval"])
    """`humaneval` (always at hand), or paths of JSONL files of problems (MBPP, MultiPL-E, a repository benchmark)."""
    ngram: PositiveInt = 13
    """Words in a row (in lower case, whatever stands between them) that a file must share with a problem."""
    min_substring: PositiveInt = 50
    """Characters of a docstring or a solution, words alone, from which on it is looked for as a whole too."""


class CleaningSections(Section):
    """The sections on what is kept; a part of the data configuration."""

    filters: FiltersSection = FiltersSection()
    licences: LicencesSection = LicencesSection()
    secrets: SecretsSection = SecretsSection()
    dedup: DedupSection = DedupSection()
    decontamination: DecontaminationSection = DecontaminationSection()
