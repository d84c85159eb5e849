"""What a corpus was searched for: which benchmarks, in which files of problems, and what of them cannot be found."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codelm.data.contamination.needles import Needles
from codelm.data.contamination.problems import Problem, file_of
from codelm.errors import DataError

_MOST_NAMED = 5


@dataclass(frozen=True)
class Sought:
    """One entry of `decontamination.benchmarks`."""

    given: str
    """As the YAML names it."""
    sha256: str
    """Of the file of problems."""
    problems: dict[str, int]
    """Their number by the benchmarks' own names."""
    uncovered: tuple[str, ...]
    """`benchmark id` of those too short or too ordinary to be found."""

    @classmethod
    def of(cls, given: str, problems: Iterable[Problem], needles: Needles) -> "Sought":
        """What `needles` can find of an entry's problems."""
        names = [(problem.benchmark, problem.id) for problem in problems]
        uncovered = set(needles.uncovered)
        return cls(
            given,
            sha256_of(file_of(given)),
            dict(Counter(benchmark for benchmark, _ in names)),
            tuple(f"{benchmark} {id}" for benchmark, id in names if (benchmark, id) in uncovered),
        )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Sought":
        """The inverse of `dataclasses.asdict`, from JSON."""
        return cls(**{**fields, "uncovered": tuple(fields["uncovered"])})

    def warning(self) -> str | None:
        """A sentence on what may be trained on all the same."""
        if not self.uncovered:
            return None
        more = len(self.uncovered) - _MOST_NAMED
        named = ", ".join(self.uncovered[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
        return (
            f"{len(self.uncovered)} of {sum(self.problems.values())} problems of {self.given} are too short or too"
            f" ordinary to be told from other code, and are not kept out: {named}"
        )


def sha256_of(file: Path) -> str:
    """The hash of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def hashes_of(benchmarks: Iterable[str]) -> dict[str, str]:
    """The hash of each entry's file of problems, of those that are there."""
    hashes = {}
    for given in benchmarks:
        try:
            hashes[given] = sha256_of(file_of(given))
        except (DataError, OSError):
            continue
    return hashes
