"""What each document goes through once it is read, before anything of it is written: licence, secrets, problems.

Filters on paths and contents came before (`filters`); what concerns several documents comes later (`select`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, pairwise
from typing import Any

from codelm.config.cleaning import LicencesSection
from codelm.config.data import DataConfig
from codelm.data.contamination.needles import Contamination, Needles
from codelm.data.contamination.problems import load_problems
from codelm.data.contamination.sought import Sought
from codelm.data.documents import Counts, Document
from codelm.data.licences.detect import file_licence, is_kept
from codelm.data.rules.text_rules import Finding
from codelm.data.secrets.scanner import Scanner


@dataclass
class Findings:
    """What cleaning found and did."""

    dropped: Counts = field(default_factory=Counts)
    secrets: Counts = field(default_factory=Counts)
    """By language and kind; whether they were redacted, or their files dropped, is the policy's."""
    contamination: Contamination = field(default_factory=Contamination)

    def of(self, source: str) -> "Findings":
        """The same findings, for documents of one source."""
        return replace(self, dropped=self.dropped.of(source), secrets=self.secrets.of(source))

    def to_dict(self) -> dict[str, Any]:
        return {
            "dropped": self.dropped.save(),
            "secrets": self.secrets.save(),
            "contamination": self.contamination.to_dict(),
        }

    def merge(self, found: dict[str, Any]) -> None:
        """Add what another part of the corpus found."""
        self.dropped.add(found["dropped"])
        self.secrets.add(found["secrets"])
        self.contamination.merge(found["contamination"])


_PERMISSIVE = LicencesSection(keep="permissive", unknown="drop")


def rank_of(licence: str | None) -> int:
    """How well a licence speaks for a copy: 0 permissive, 1 another known one, 2 unknown."""
    return 2 if licence is None else int(not is_kept(licence, _PERMISSIVE))


class Cleaner:
    """The rules of a configuration, made ready once a process; `sought` is which evaluation problems it looks for.

    Raises:
        DataError: when the problems of a benchmark cannot be read.
    """

    def __init__(self, config: DataConfig) -> None:
        self._licences = config.licences
        self._scanner = Scanner(config.secrets)
        named = {name: load_problems(name) for name in config.decontamination.benchmarks}
        self._needles = Needles.build(chain.from_iterable(named.values()), config.decontamination)
        self.sought = tuple(Sought.of(name, problems, self._needles) for name, problems in named.items())

    def explain(self, text: str) -> Iterator[Finding]:
        """What the rules on secrets and on evaluation problems find in a text."""
        hits = self._needles.find(text)
        named = ", ".join(f"{hit.benchmark} {hit.problem}" for hit in hits[:3]) or None
        yield Finding("evaluation_problems", named, None, bool(hits), "decontamination.benchmarks")
        scrubbed = self._scanner.apply(text)
        kinds = ", ".join(f"{kind} {number}" for kind, number in sorted(scrubbed.counts.items())) or None
        yield Finding("secrets", kinds, None, scrubbed.text is None, "secrets.policy")

    def clean(self, document: Document, findings: Findings) -> Document | None:
        """The document as it is kept, or None when a rule drops it (and counts it)."""
        language = document.language
        if self._licences.detect:
            document = replace(document, licence=file_licence(document.text, document.licence))
        if not is_kept(document.licence, self._licences):
            findings.dropped.drop(language, "licence")
            return None
        hits = self._needles.find(document.text, language)
        if hits:
            findings.contamination.add(f"{document.repository}:{document.path}", hits)
            findings.dropped.drop(language, "evaluation_problems")
            return None
        text, trained, kinds = _scrubbed(document, self._scanner)
        for kind, number in kinds.items():
            findings.secrets.drop(language, kind, number)
        if text is None:
            findings.dropped.drop(language, "secrets")
            return None
        return replace(document, text=text, trained=trained)


def _scrubbed(
    document: Document, scanner: Scanner
) -> tuple[str | None, tuple[tuple[int, int], ...] | None, Counter[str]]:
    """The text as the policies leave it (None: to be dropped), its trained ranges, and the findings by kind."""
    if document.trained is None:
        scrubbed = scanner.apply(document.text)
        return scrubbed.text, None, scrubbed.counts
    # A redaction moves what follows it, so each stretch between two bounds is scrubbed by itself.
    bounds = sorted({0, len(document.text), *(bound for trained in document.trained for bound in trained)})
    parts, moved, kinds = [], {0: 0}, Counter[str]()
    for first, end in pairwise(bounds):
        scrubbed = scanner.apply(document.text[first:end])
        kinds.update(scrubbed.counts)
        if scrubbed.text is None:
            return None, None, kinds
        parts.append(scrubbed.text)
        moved[end] = moved[first] + len(scrubbed.text)
    return "".join(parts), tuple((moved[first], moved[end]) for first, end in document.trained), kinds
