"""Secrets and personal data in a text: found, counted, redacted.

A cheap pass over the bytes finds candidates (long words, names such as `password`, `@`, dotted numbers); the costly
patterns are tried on those only. The time is linear in the text, whatever it holds.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codelm.config.cleaning import SecretsSection
from codelm.data.secrets.assignments import find_assignments
from codelm.data.secrets.personal_data import find_at_signs, find_ip_addresses
from codelm.data.secrets.private_keys import find_private_keys
from codelm.data.secrets.tokens import find_random_strings, find_tokens
from codelm.data.secrets.view import View

PERSONAL = frozenset({"email", "ip"})
_REDACTED = re.compile("(?:<(?:EMAIL|IP_ADDRESS|PASSWORD|KEY)>)+")
_PLACEHOLDERS = {"email": "<EMAIL>", "ip": "<IP_ADDRESS>", "password": "<PASSWORD>", "url_password": "<PASSWORD>"}


@dataclass(frozen=True)
class Finding:
    """`text[start:end]` is of `kind`; offsets in characters."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Scrubbed:
    """What became of a text: None where its file is to be dropped. `counts`: findings by kind."""

    text: str | None
    counts: Counter[str]


class Scanner:
    """Looks for the kinds of a `secrets` section and carries out its policies; keeps no state between texts."""

    def __init__(self, section: SecretsSection) -> None:
        self.section = section

    def scan(self, text: str) -> list[Finding]:
        """Findings in their order, none overlapping; kinds that are ignored or whose policy is `off` are left out.

        What consists of placeholders is no finding.
        """
        if not text or (self.section.policy == "off" and self.section.personal == "off"):
            return []
        findings = _merged(found for found in _findings(View.of(text)) if self._policy(found[0]) != "off")
        return [found for found in findings if not _REDACTED.fullmatch(text, found.start, found.end)]

    def apply(self, text: str) -> Scrubbed:
        """The text as the policies leave it, and what was found.

        Redaction repeats until nothing is found, so that redacting twice changes nothing. Each turn leaves fewer
        characters outside placeholders, hence it ends.
        """
        findings = self.scan(text)
        counts = Counter(finding.kind for finding in findings)
        if any(self._policy(kind) == "drop-file" for kind in counts):
            return Scrubbed(None, counts)
        while findings := [finding for finding in findings if self._policy(finding.kind) == "redact"]:
            text = redact(text, findings)
            findings = self.scan(text)
            counts.update(finding.kind for finding in findings if self._policy(finding.kind) == "redact")
        return Scrubbed(text, counts)

    def _policy(self, kind: str) -> str:
        if kind in self.section.ignore:
            return "off"
        return self.section.personal if kind in PERSONAL else self.section.policy


def redact(text: str, findings: list[Finding]) -> str:
    """Put `<KEY>`, `<PASSWORD>`, `<EMAIL>` or `<IP_ADDRESS>` in the place of findings (in order, not overlapping)."""
    parts: list[str] = []
    done = 0
    for finding in findings:
        parts += text[done : finding.start], _PLACEHOLDERS.get(finding.kind, "<KEY>")
        done = finding.end
    return "".join([*parts, text[done:]])


def _findings(view: View) -> Iterator[tuple[str, int, int]]:
    """All kinds, the surest first; what they find may overlap."""
    yield from find_private_keys(view)
    yield from find_tokens(view)
    yield from find_at_signs(view)
    yield from find_assignments(view)
    yield from find_random_strings(view)
    yield from find_ip_addresses(view)


def _merged(found: Iterable[tuple[str, int, int]]) -> list[Finding]:
    """Overlapping findings become one that covers them all, of the kind found first; a secret before personal data."""
    ranked = sorted((start, end, (kind in PERSONAL, rank), kind) for rank, (kind, start, end) in enumerate(found))
    merged: list[Finding] = []
    best = (False, 0)
    for start, end, rank, kind in ranked:
        if merged and start < merged[-1].end:
            last = merged[-1]
            merged[-1] = Finding(kind if rank < best else last.kind, last.start, max(end, last.end))
            best = min(rank, best)
        else:
            merged.append(Finding(kind, start, end))
            best = rank
    return merged
