"""Why a file would be kept or dropped: what every rule of a configuration finds in it."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from codelm.config.data import CodeSource, DataConfig
from codelm.data.clean import Cleaner
from codelm.data.documents import Repository
from codelm.data.globs import compile_globs
from codelm.data.licences.detect import file_licence, governing_licence, is_kept
from codelm.data.rules.filters import examine
from codelm.data.rules.gitattributes import GitAttributes
from codelm.data.rules.text_rules import Finding
from codelm.data.sources.notebooks import notebook_text
from codelm.data.sources.repositories import RepositoryRules, find_repositories, place_in, rules_of
from codelm.errors import DataError

_MOST_BYTES = 100_000_000
"""A file that is larger than that, and than any is allowed to be, is not read to say so."""


@dataclass(frozen=True)
class Explanation:
    """The way of one file: `findings` in the order of the rules, `reason` the first that drops it, or None."""

    file: str
    repository: str
    path: str
    """Inside the repository."""
    language: str | None
    licence: str | None
    findings: list[Finding]

    @property
    def reason(self) -> str | None:
        return next((finding.rule for finding in self.findings if finding.drops), None)


def explain_file(file: str, config: DataConfig) -> Explanation:
    """What every rule on one file finds, as the file is now; duplicates, limits and the split concern others.

    A file inside a folder of the sources is judged as of that source, any other as at the top of a repository. One that
    the commit of its repository has not is `not_in_commit`.

    Raises:
        DataError: when the file cannot be read, or a source or a benchmark cannot.
    """
    # The folder's links lead to it; a link in its own place is what the pipeline would find there.
    place = Path(file).parent.resolve() / Path(file).name
    contents = _contents(file, place, max(config.filters.max_file_bytes, _MOST_BYTES))
    repository, path, early = _home(place, config)
    rules = rules_of(repository, config) if repository is not None else RepositoryRules(GitAttributes({}), {})
    name, stated = ("", None) if repository is None else (repository.name, repository.licence)
    if isinstance(contents, Finding):
        return Explanation(file, name, path, None, stated, [*early, contents])
    examined = examine(
        path,
        contents,
        config.filters,
        repository=name,
        convert=lambda text: notebook_text(text, config.notebooks),
        everything=True,
        attributes=rules.attributes.of(path),
    )
    findings = [*early, *examined.findings]
    language = examined.language
    chosen = config.languages is None or language is None or language in config.languages
    findings.append(Finding("language_not_chosen", language, None, not chosen, "languages"))
    licence = None
    if examined.text:
        stated = stated or governing_licence(path, rules.licences)
        licence = file_licence(examined.text, stated) if config.licences.detect else stated
        findings.append(Finding("licence", licence, None, not is_kept(licence, config.licences), "licences.keep"))
        findings += Cleaner(config).explain(examined.text)
    return Explanation(file, name, path, language, licence, findings)


def _contents(file: str, place: Path, limit: int) -> bytes | Finding:
    """The bytes of a regular file of at most `limit` bytes; of any other what it is, as the pipeline counts it."""
    try:
        status = place.lstat()
        if stat.S_ISLNK(status.st_mode):
            return Finding("symlink", os.readlink(place), None, True, None)
        if stat.S_ISREG(status.st_mode):
            if status.st_size > limit:
                return Finding("too_large", status.st_size, limit, True, "filters.max_file_bytes")
            return place.read_bytes()
        if not stat.S_ISDIR(status.st_mode):
            return Finding("special_file", stat.filemode(status.st_mode), None, True, None)
        reason = "a folder"
    except OSError as error:
        reason = str(error.strerror)
    raise DataError(f"--explain {file}: it cannot be read ({reason})")


def _home(file: Path, config: DataConfig) -> tuple[Repository | None, str, list[Finding]]:
    """The repository that a file is in, its path there, and what leaves it out: the commit, the patterns."""
    for key, source in config.sources.items():
        if not isinstance(source, CodeSource) or not file.is_relative_to(Path(source.path).expanduser().resolve()):
            continue
        inside = file.relative_to(Path(source.path).expanduser().resolve()).as_posix()
        outside = bool(source.include) and not compile_globs(source.include)(inside)
        drops = outside or compile_globs(source.exclude)(inside)
        excluded = Finding("excluded", inside if drops else None, None, drops, f"sources.{key}.include, .exclude")
        homes = [found for found in find_repositories(key, source) if file.is_relative_to(found.root)]
        if homes:
            home = max(homes, key=lambda found: len(found.root))
            home, path, unread = place_in(home, file.relative_to(home.root).as_posix(), source.submodules)
            setting = f"sources.{key}.{'submodules' if unread == 'submodule' else 'commit'}"
            early = [Finding(unread, path, None, True, setting)] if unread is not None else []
            return home, path, [*early, excluded]
    return None, file.name, [Finding("excluded", None, None, False, None)]
