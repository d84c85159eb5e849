"""Which files are kept: rules on the path inside the repository, then what the bytes are, then rules on the text.

Each rule has a name, under which its drops are counted by language. `examine` is the whole way of a file, with what
every rule found; `explain` prints from it, and the read stage can take its text, so they cannot disagree.
"""

import codecs
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from codelm.config.cleaning import FiltersSection
from codelm.data.rules.ambiguous import decide_language
from codelm.data.rules.gitattributes import NOTHING_SAID, Attributes
from codelm.data.rules.text_rules import Finding, Measured, findings
from codelm.data.rules.vendored import documentation_by, generated_by_name, vendored_by
from codelm.data.sources.notebooks import notebook_text

_EVALUATION = re.compile(r"human[-_]?eval([-_.]|$)", re.IGNORECASE)
_UTF_16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


def path_reason(
    repository: str, path: str, filters: FiltersSection, attributes: Attributes = NOTHING_SAID
) -> str | None:
    """The name of the rule on paths that drops a file, or None; `path` is judged inside its repository."""
    return _first_drop(path_findings(repository, path, filters, attributes))


def path_findings(
    repository: str, path: str, filters: FiltersSection, attributes: Attributes = NOTHING_SAID
) -> Iterator[Finding]:
    """What each rule on paths finds; `attributes` is what the repository's .gitattributes say of the file."""
    # The problems that models are judged on must never be learnt, whatever the settings.
    parts = (*repository.split("/"), *path.split("/"))
    problems = next((part for part in parts if _EVALUATION.match(part)), None)
    yield Finding("evaluation_problems", problems, None, problems is not None, None)
    said = attributes if filters.use_gitattributes else NOTHING_SAID
    yield _path_finding("vendored", said.vendored, vendored_by, path, filters.drop_vendored)
    yield _path_finding("generated", said.generated, generated_by_name, path, filters.drop_generated)
    yield _path_finding("documentation", said.documentation, documentation_by, path, filters.drop_documentation)
    hidden = said.detectable is False
    found = "-linguist-detectable" if hidden else None
    yield Finding("undetectable", found, None, hidden and filters.drop_undetectable, "filters.drop_undetectable")


def _path_finding(rule: str, said: bool | None, judge: Callable[[str], str | None], path: str, drop: bool) -> Finding:
    found = judge(path) if said is None else f".gitattributes: linguist-{rule}" if said else None
    return Finding(rule, found, None, drop and found is not None, f"filters.drop_{rule}")


def _first_drop(found: Iterator[Finding]) -> str | None:
    return next((finding.rule for finding in found if finding.drops), None)


def decode(contents: bytes) -> tuple[str, str | None]:
    """The text of a file's bytes, and the reason why it is none (`binary`, `not_utf8`).

    UTF-8, without its byte order mark; UTF-16 when a byte order mark says so, as Windows' tools write SQL and scripts.
    Other encodings are not guessed.
    """
    encoding = _UTF_16.get(contents[:2])
    if encoding is None and b"\0" in contents:
        return "", "binary"
    try:
        text = contents[2:].decode(encoding) if encoding else contents.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "", "binary" if encoding else "not_utf8"
    return ("", "binary") if "\0" in text else (text, None)


def text_reason(text: str, language: str, filters: FiltersSection, attributes: Attributes = NOTHING_SAID) -> str | None:
    """The name of the rule on contents that drops a text, or None."""
    return _first_drop(findings(text, language, filters, may_be_generated=_may_be_generated(filters, attributes)))


def _may_be_generated(filters: FiltersSection, attributes: Attributes) -> bool:
    return attributes.generated is not False or not filters.use_gitattributes


@dataclass
class Examined:
    """How far a file came: its language and text as far as they are known, and what the rules found, in order."""

    language: str | None = None
    text: str = ""
    findings: list[Finding] = field(default_factory=list)

    @property
    def reason(self) -> str | None:
        """The name of the first rule that drops the file, or None: it is kept."""
        return _first_drop(iter(self.findings))


def examine(
    path: str,
    contents: bytes,
    filters: FiltersSection,
    *,
    repository: str = "",
    attributes: Attributes = NOTHING_SAID,
    convert: Callable[[str], str | None] = notebook_text,
    everything: bool = False,
) -> Examined:
    """The way of one file through all rules, to the first one that drops it, or with `everything` through all of them.

    `path` is inside the repository; `convert` makes a notebook's text from its JSON. Rules on the text are not asked
    when there is none (binary files, unknown languages).
    """
    examined = Examined()
    for finding in _examine(examined, path, contents, filters, repository, attributes, convert, everything):
        examined.findings.append(finding)
        if finding.drops and not everything:
            break
    return examined


def explain(
    path: str,
    contents: bytes,
    filters: FiltersSection,
    *,
    repository: str = "",
    attributes: Attributes = NOTHING_SAID,
) -> list[Finding]:
    """What every rule finds in a file, in the order in which they are asked; the first that drops is the reason."""
    return examine(path, contents, filters, repository=repository, attributes=attributes, everything=True).findings


def _examine(
    examined: Examined,
    path: str,
    contents: bytes,
    filters: FiltersSection,
    repository: str,
    attributes: Attributes,
    convert: Callable[[str], str | None],
    everything: bool,
) -> Iterator[Finding]:
    yield from path_findings(repository, path, filters, attributes)
    yield from findings_on_contents(examined, path, contents, filters, attributes, convert, everything=everything)


def findings_on_contents(
    examined: Examined,
    path: str,
    contents: bytes,
    filters: FiltersSection,
    attributes: Attributes,
    convert: Callable[[str], str | None],
    language: str | None = None,
    everything: bool = False,
) -> Iterator[Finding]:
    """What each rule on the bytes and the text finds; fills in `examined` on the way.

    `language` is given where it is known without the path and the contents (a table's column).
    """
    limit = filters.max_file_bytes
    yield Finding("too_large", len(contents), limit, len(contents) > limit, "filters.max_file_bytes")
    text, reason = decode(contents)
    if reason is not None:
        yield Finding(reason, None, None, True, None)
        return
    language = language or decide_language(path, text, attributes if filters.use_gitattributes else NOTHING_SAID)
    yield Finding("not_a_language", language, None, language is None, None)
    if language is None:
        return
    examined.language = language
    if language == "jupyter":
        script = convert(text)
        yield Finding("not_a_notebook", None, None, script is None, None)
        if script is None:
            return
        text = script
    examined.text = text
    possible = _may_be_generated(filters, attributes)
    yield from findings(text, language, filters, may_be_generated=possible, everything=everything)


def alphanumeric_share(text: str) -> float:
    """The share of letters and digits among the characters of a text."""
    return Measured(text, "").alphanumeric
