"""What is kept of a corpus: the sections on filters, licences, secrets, duplicates and evaluation problems."""

from typing import Annotated, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from codelm.config.fields import LICENCE_FORMS, LanguageName, Section
from codelm.config.licences import OneLicence

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class LanguageFiltersSection(Section):
    """Bounds for one language. null: as published for it, else as in `filters`; a huge number bounds nothing."""

    min_characters: NonNegativeInt | None = None
    fewest_lines: NonNegativeInt | None = None
    max_lines: PositiveInt | None = None
    max_line_length: PositiveInt | None = None
    max_mean_line_length: PositiveFloat | None = None
    min_alphanumeric: Share | None = None
    min_alphabetic: Share | None = None
    max_digits: Share | None = None
    max_encoded_run: PositiveInt | None = None
    max_encoded_share: Share | None = None
    least_comments: Share | None = None
    max_comments: Share | None = None
    min_visible_text: Share | None = None
    min_visible_characters: NonNegativeInt | None = None
    drop_xml: bool | None = None
    drop_generated: bool | None = None


class FiltersSection(Section):
    """Files outside these bounds are dropped, and counted by reason. null means no bound.

    Lengths are in characters, shares are of a file's characters.
    """

    max_file_bytes: PositiveInt = 1_000_000
    """The Stack takes no larger ones."""
    min_characters: NonNegativeInt = 0
    """OpenCoder: 50."""
    fewest_lines: NonNegativeInt = 0
    """OpenCoder: 10."""
    max_lines: PositiveInt | None = 100_000
    """StarCoder2, OpenCoder."""
    max_line_length: PositiveInt | None = 1000
    """Codex, StarCoder. Markdown, reStructuredText, SQL, R and notebooks have only the limits in `languages`."""
    max_mean_line_length: PositiveFloat | None = 100.0
    """Codex, StarCoder; for the same languages as `max_line_length`."""
    min_alphanumeric: Share = 0.25
    """Letters and digits (StarCoder)."""
    min_alphabetic: Share = 0.25
    """Letters (StarCoder2, DeepSeek-Coder)."""
    max_digits: Share | None = None
    """OpenCoder: 0.2 (icons and tables of numbers have more). SQL has OpenCoder's 0.3, which data dumps exceed."""
    max_encoded_run: PositiveInt | None = 1024
    """Of base64, two-digit hexadecimal numbers or Unicode escapes in a row (StarCoder2)."""
    max_encoded_share: Share | None = 0.5
    """Of all such runs (StarCoder2)."""
    least_comments: Share | None = None
    """SantaCoder: 0.01. Python's docstrings are comments; Markdown and reStructuredText have none."""
    max_comments: Share | None = None
    """SantaCoder, OpenCoder: 0.8."""
    min_visible_text: Share = 0.2
    """Of HTML: what is no tag, comment, script or style (StarCoder, DeepSeek-Coder)."""
    min_visible_characters: NonNegativeInt = 100
    """Of HTML (StarCoder, DeepSeek-Coder)."""
    drop_xml: bool = True
    """Files with an XML declaration in their first 100 characters (StarCoder); not for HTML."""
    drop_vendored: bool = True
    """Judged by the path inside the repository: node_modules, third_party, vendor …"""
    drop_generated: bool = True
    """By the name, or by what the first lines say (GitHub linguist, StarCoder2)."""
    drop_documentation: bool = False
    """`docs/`, `examples/`, README … (GitHub linguist)."""
    drop_undetectable: bool = False
    """What .gitattributes keep out of the repository's language bar (`-linguist-detectable`)."""
    use_gitattributes: bool = True
    """Their `linguist-language`, `-vendored`, `-generated` and `-documentation` overrule the rules."""
    languages: dict[LanguageName, LanguageFiltersSection] = Field(default_factory=dict)
    """Other bounds by language, such as `languages.html.max_line_length: 2000`."""


def _licence_form(value: object) -> str:
    return LICENCE_FORMS[isinstance(value, list)]


KeptLicences = Annotated[
    Annotated[Literal["all", "permissive"], Tag(LICENCE_FORMS[0])]
    | Annotated[list[OneLicence], Field(min_length=1), Tag(LICENCE_FORMS[1])],
    Discriminator(_licence_form),
]


class LicencesSection(Section):
    """The licence of each file, by its header or else the nearest licence file, and which ones are kept."""

    off: ClassVar[str] = "{detect: false}"

    detect: bool = True
    """Look for SPDX tags and licence texts; false takes the sources' `licence` alone."""
    keep: KeptLicences = "all"
    """`permissive` is what Blue Oak Council rates so (docs/data.md); a list holds SPDX ids.

    `A OR B` is kept when one is, `A AND B` when both are, `GPL-2.0-or-later` when `GPL-2.0-only` is."""
    unknown: Literal["keep", "drop"] = "keep"
    """What becomes of files whose licence is not known, when `keep` is not `all`."""


SecretKind = Literal[
    "age", "anthropic", "artifactory", "atlassian", "aws", "azure", "cloudant", "databricks", "digitalocean", "discord",
    "docker", "doppler", "email", "facebook", "github", "gitlab", "google", "grafana", "heroku", "huggingface", "ibm",
    "ip", "jwt", "linear", "mailchimp", "mailgun", "newrelic", "npm", "openai", "password", "postman", "private_key",
    "pypi", "random_string", "rubygems", "secret", "sendgrid", "shopify", "slack", "softlayer", "square", "stripe",
    "telegram", "twilio", "url_password", "vault",
]  # fmt: skip


class SecretsSection(Section):
    """Keys, tokens, passwords, e-mail and IP addresses, found before anything is written to disk (docs/secrets.md)."""

    off: ClassVar[str] = '{policy: "off", personal: "off"}'

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
    """Entries of a signature, of four bytes each on disk; an estimate's error is some 0.5 / sqrt(n) at most."""
    ngram: PositiveInt = 5
    """Tokens (runs of letters, digits, underscores, all beyond ASCII) in a row; a file is the set of its n-grams."""
    min_tokens: PositiveInt = 10
    """Shorter files are compared by their bytes alone."""
    verify: bool = True
    """Join two files only when their signatures agree in a share of `threshold`; false joins all that share a band."""


class DedupSection(Section):
    """Copies across all sources."""

    off: ClassVar[str] = "{exact: false, near: null}"

    exact: bool = True
    """Files with the same bytes as one already taken."""
    near: NearDuplicatesSection | None = NearDuplicatesSection()


class DecontaminationSection(Section):
    """Files that hold problems or solutions which models are judged on are dropped."""

    off: ClassVar[str] = "{benchmarks: []}"

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
