"""The manifest of a prepared corpus: what each shard folder holds, what was dropped, and which tokenizer made it."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from codelm.data.contamination.sought import Sought
from codelm.data.shards import ShardInfo, check_size, write_atomically
from codelm.errors import DataError, TokenizerError
from codelm.tokenizer import Fingerprint

MANIFEST_FILE = "manifest.json"
FORMAT = 2


@dataclass(frozen=True)
class Share:
    """What a stream has of one source."""

    files: int
    bytes: int
    tokens: int
    licences: dict[str, int] = field(default_factory=dict)
    """Files by SPDX expression; `unknown` where none was found."""


@dataclass(frozen=True)
class StreamInfo:
    """One language of one split."""

    files: int
    bytes: int
    """UTF-8 bytes of text."""
    tokens: int
    """With one end-of-text token a document. Those beyond the last whole sample (concat) are in none."""
    samples: int
    shards: tuple[ShardInfo, ...]
    padding: int = 0
    """End-of-text tokens that fill up rows (best_fit)."""
    cut_documents: int = 0
    """Documents in more than one sample (best_fit)."""
    truncated: int = 0
    """Conversations longer than a sample, of which the first part is kept."""
    left_out: int = 0
    """Conversations without an answer in their first part."""
    lost_tokens: int = 0
    """Tokens of those that are in no sample."""
    sources: dict[str, Share] = field(default_factory=dict)
    """By the sources' keys in the YAML."""
    licences: dict[str, int] = field(default_factory=dict)
    """Files by SPDX expression; `unknown` where none was found."""


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says: `splits[split][language]`, `dropped[language][reason]`, `secrets[language][kind]`."""

    run_name: str
    codelm_version: str
    settings: dict[str, Any]
    max_seq_len: int
    dtype: str
    tokenizer: Fingerprint
    splits: dict[str, dict[str, StreamInfo]]
    dropped: dict[str, dict[str, int]]
    secrets: dict[str, dict[str, int]] = field(default_factory=dict)
    """Found by the policy of `settings.secrets`: redacted, in dropped files, or only counted."""
    contamination: dict[str, Any] = field(default_factory=dict)
    """Evaluation problems found in files, which were dropped: by benchmark and problem."""
    sought: tuple[Sought, ...] | None = None
    """Which evaluation problems were looked for; None in corpora that were made before it was recorded."""
    by_source: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """`dropped` and `secrets` once more: `by_source[key]["dropped"][reason]`, for every source of the YAML."""
    withdrawn: tuple[str, ...] = ()
    """Repositories that were taken out afterwards."""

    @property
    def hash(self) -> str:
        """Of everything that decides the token ids of every sample: splits, tokenizer, row length."""
        deciding = {key: self.to_dict()[key] for key in ("splits", "tokenizer", "max_seq_len")}
        for stream in (stream for languages in deciding["splits"].values() for stream in languages.values()):
            for share in stream["sources"].values():
                del share["licences"]  # corpora that were made before it was counted keep their hash
        # The library that counted does not decide: its ids do, and they are in probe_sha256.
        del deciding["tokenizer"]["library"]
        return hashlib.sha256(json.dumps(deciding, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **json.loads(json.dumps(asdict(self)))}

    def languages(self, split: str = "train") -> list[str]:
        """The languages of a split that have at least one whole sample."""
        return [language for language, stream in self.splits.get(split, {}).items() if stream.samples > 0]

    def check(self, folder: str | Path, hashes: bool = False) -> None:
        """Compare the files with the manifest: presence and size always, contents when `hashes`.

        Raises:
            DataError: naming the first shard that is absent, truncated, or has other contents.
        """
        for split, languages in self.splits.items():
            for language, stream in languages.items():
                for shard in stream.shards:
                    file = Path(folder) / split / language / shard.file
                    check_size(file, shard.bytes)
                    if hashes and _sha256(file) != shard.sha256:
                        raise DataError(
                            f"the shard {file} has other contents than its manifest says (its SHA-256 differs);"
                            " restore it, or delete the output folder and prepare the data again"
                        )

    def check_tokenizer(
        self, fingerprint: Fingerprint, whose: str = "this tokenizer", beside: str | None = None
    ) -> None:
        """Raises TokenizerError: when another tokenizer than `fingerprint` made the shards; `beside` as below."""
        if not self.tokenizer.matches(fingerprint):
            remedy = "prepare that corpus again with it" if beside else "use the one beside them, or prepare them again"
            raise TokenizerError(
                f"the shards of {self._called(beside)} were made with another tokenizer than {whose}:"
                f" {fingerprint.difference(self.tokenizer)}; {remedy}"
            )

    def check_max_seq_len(self, max_seq_len: int, beside: str | None = None) -> None:
        """Compare the length of the rows; `beside` is the key of a corpus that must follow another one's.

        Raises:
            DataError: when the shards hold rows of another length.
        """
        if max_seq_len != self.max_seq_len:
            remedy = f"set max_seq_len={self.max_seq_len}, or prepare the data with"
            remedy = "prepare that corpus again with" if beside else remedy
            raise DataError(
                f"the shards of {self._called(beside)} hold samples of {self.max_seq_len} tokens, but max_seq_len is"
                f" {max_seq_len}; {remedy} {max_seq_len}"
            )

    def _called(self, beside: str | None) -> str:
        return f"{self.run_name} ({beside})" if beside else self.run_name


def load_manifest(folder: str | Path) -> Manifest:
    """The manifest of an output folder of data_prep.

    Raises:
        DataError: when there is none (nothing was prepared, or preparing never finished), or it is damaged.
    """
    file = Path(folder) / MANIFEST_FILE
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"there is no prepared data at {folder} ({MANIFEST_FILE} is absent); {_how(folder)}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({error}); delete the folder and prepare the data again") from None
    try:
        stored_hash = fields.pop("hash")
        number = fields.pop("format")
        if number != FORMAT:
            raise DataError(f"{file} has format {number}, but this codelm reads {FORMAT}; prepare the data again")
        fields["tokenizer"] = Fingerprint.from_dict(fields["tokenizer"])
        fields["splits"] = {
            split: {language: _stream_info(stream) for language, stream in languages.items()}
            for split, languages in fields["splits"].items()
        }
        fields["withdrawn"] = tuple(fields["withdrawn"])
        if fields.get("sought") is not None:
            fields["sought"] = tuple(map(Sought.from_dict, fields["sought"]))
        manifest = Manifest(**fields)
        intact = manifest.hash == stored_hash
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} is damaged ({error}); delete the folder and prepare the data again") from None
    if not intact:
        raise DataError(f"{file} was changed after it was written (its hash differs); prepare the data again")
    return manifest


def save_manifest(manifest: Manifest, folder: str | Path) -> None:
    """Write `manifest.json`, atomically."""
    text = json.dumps({**manifest.to_dict(), "hash": manifest.hash}, indent=1, ensure_ascii=False)
    write_atomically(Path(folder) / MANIFEST_FILE, (text + "\n").encode())


def _stream_info(stream: dict[str, Any]) -> StreamInfo:
    shards = tuple(ShardInfo(**shard) for shard in stream["shards"])
    sources = {key: Share(**share) for key, share in stream["sources"].items()}
    return StreamInfo(**{**stream, "shards": shards, "sources": sources})


def _how(folder: str | Path) -> str:
    if Path(folder).is_dir() and any(Path(folder).iterdir()):
        return "its preparation has not finished: run the same data_prep/main.py again to continue it"
    return "run data_prep/main.py first, or correct the path"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
