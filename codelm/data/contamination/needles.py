"""Which files hold what models are judged on: problems, and their solutions, found however they are formatted.

Texts are compared as words: runs of letters, digits and underscores in lower case, whatever stands between them. So
white space, line breaks, quotes, operators and the marks of comments hide nothing: a docstring is found in another
language's comments. Two kinds of needles are looked for:

- `ngram`: `ngram` words in a row that a text shares with a problem (13, as GPT-3 was decontaminated). An n-gram counts
  only when it is distinctive: it has enough rare words, and few problems of its benchmark share it;
- `substring`: a whole docstring or solution (as StarCoder was decontaminated), for those without such n-grams;
- `renamed`: half of a function of a repository's benchmark, whatever its names are (`shapes`); in Python alone.

The hash of words i to j of a text is a difference of prefix sums, so the first two cost a few numpy operations a byte.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from codelm.config.cleaning import DecontaminationSection
from codelm.data.contamination.common_words import COMMON_WORDS
from codelm.data.contamination.problems import Problem
from codelm.data.contamination.shapes import position_of, runs_of

Hashes = NDArray[np.uint64]
Kind = Literal["ngram", "substring", "renamed"]

_ANCHOR = 5
"""Words by which a substring is first looked for; shorter ones are no needles."""
_RARE, _DIFFERENT = 2, 6
"""A needle has so many different rare words, or one among so many different words. Runs of numbers, alphabets and usual
loops are none. Chosen on 590 MB of real code in the 20 languages, where the needles of HumanEval and MultiPL-E find no
file; nor do they in 787 MB of other packages that played no part in the choice.
"""
_LONG = 25
"""A docstring or solution of so many words, `_DIFFERENT` of them different, needs no rare one."""
_SHARED_BY = 3
"""An n-gram of more problems of one benchmark than this says little about any of them."""
_SHARE_OF_RUNS, _FEWEST_RUNS = 0.5, 4
"""A renamed copy has this share of a function's runs; one of fewer runs looks like other code."""
_PYTHON = ("python", "jupyter")
_CHUNK, _OVERLAP = 1 << 18, 1 << 14
"""Characters that are hashed at once, and that neighbouring chunks share."""

_SPACE = 32
_WORD_BYTES = bytes(
    byte | 0x20 if chr(byte) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" else byte
    if byte >= 128 or chr(byte).isalnum() or chr(byte) == "_" else _SPACE
    for byte in range(256)
)  # fmt: skip
_FACTOR = 0x9E3779B97F4A7C15
_INVERSE = pow(_FACTOR, -1, 1 << 64)
# One random number a byte value; a generator with a published algorithm gives the same on every machine.
_VALUES: Hashes = np.random.Generator(np.random.PCG64(20240229)).integers(0, 1 << 64, 256, dtype=np.uint64)
_FILTER_BITS = 20


@dataclass(frozen=True)
class Hit:
    """A problem found in a text."""

    benchmark: str
    problem: str
    kind: Kind
    position: int
    """The character of the text at which the first match begins."""


@dataclass(frozen=True, eq=False)
class Needles:
    """What to look for in texts. Pickles, and is the same for the same problems."""

    problems: tuple[tuple[str, str], ...]
    """Benchmark and id."""
    uncovered: tuple[tuple[str, str], ...]
    """Those too short or too ordinary to be told from other code."""
    ngram: int
    ngrams: "_Index"
    """Leads to problems."""
    anchors: "_Index"
    """Leads from the five rarest words in a row of a substring to `substrings`."""
    substrings: tuple[tuple[bytes, int, int], ...]
    """The words, the number of the anchor's first one, the problem."""
    runs: "_Index"
    """Leads from runs of tokens to problems."""
    fewest_runs: dict[int, int]
    """By problem, how many of its runs make a renamed copy."""

    @classmethod
    def build(cls, problems: Iterable[Problem], section: DecontaminationSection | None = None) -> "Needles":
        """The needles of problems; `section` holds the length of n-grams and the least length of substrings."""
        section = section or DecontaminationSection()
        problems = list(problems)
        owners: defaultdict[int, set[int]] = defaultdict(set)
        anchors: defaultdict[int, set[int]] = defaultdict(set)
        substrings: dict[tuple[bytes, int, int], int] = {}
        runs: defaultdict[int, set[int]] = defaultdict(set)
        fewest_runs: dict[int, int] = {}
        for number, problem in enumerate(problems):
            for part in (f"{problem.statement}\n{problem.solution}", problem.tests):
                words = _Words.of(part)
                for gram in words.ngrams(section.ngram)[_distinctive(words.spell(), section.ngram)].tolist():
                    owners[gram].add(number)
            for part in (problem.description(), problem.solution):
                for anchor, before, needle in _anchored(part, section.min_substring):
                    place = substrings.setdefault((needle, before, number), len(substrings))
                    anchors[anchor].add(place)
            shape = set(runs_of(problem.code).tolist())
            if len(shape) >= _FEWEST_RUNS:
                fewest_runs[number] = max(_FEWEST_RUNS, math.ceil(_SHARE_OF_RUNS * len(shape)))
                for run in shape:
                    runs[run].add(number)
        for gram in [gram for gram, numbers in owners.items() if _is_shared(problems[number] for number in numbers)]:
            del owners[gram]
        covered = {number for _, _, number in substrings}.union(*owners.values())
        names = tuple((problem.benchmark, problem.id) for problem in problems)
        return cls(
            problems=names,
            uncovered=tuple(name for number, name in enumerate(names) if number not in covered),
            ngram=section.ngram,
            ngrams=_Index.of(owners),
            anchors=_Index.of(anchors),
            substrings=tuple(substrings),
            runs=_Index.of(runs),
            fewest_runs=fewest_runs,
        )

    def find(self, text: str, language: str | None = None) -> list[Hit]:
        """The problems found in a text, each once a kind, in the order of their first matches.

        Args:
            language: of the text, where it is known: renamed copies are looked for in Python alone.
        """
        found: dict[tuple[int, Kind], int] = {}
        for offset in range(0, max(1, len(text) - _OVERLAP), _CHUNK - _OVERLAP):
            words = _Words.of(text[offset : offset + _CHUNK])
            for word, number, kind in sorted(self._matches(words)):
                if (number, kind) not in found:
                    found[number, kind] = offset + words.position(word)
        if self.fewest_runs and language in (None, *_PYTHON):
            found.update(((number, "renamed"), position_of(text, token)) for number, token in self._renamed(text))
        hits = [Hit(*self.problems[number], kind, position) for (number, kind), position in found.items()]
        return sorted(hits, key=lambda hit: (hit.position, hit.benchmark, hit.problem, hit.kind))

    def _renamed(self, text: str) -> Iterator[tuple[int, int]]:
        """The problems of which enough runs are in a text, and the token where the first of them begins."""
        runs = runs_of(text)
        matched: defaultdict[int, set[int]] = defaultdict(set)
        first: dict[int, int] = {}
        for token, number in self.runs.lookup(runs):
            first.setdefault(number, token)
            matched[number].add(int(runs[token]))
        yield from ((number, first[number]) for number in first if len(matched[number]) >= self.fewest_runs[number])

    def _matches(self, words: "_Words") -> Iterator[tuple[int, int, Kind]]:
        """First word, problem and kind of every match."""
        for word, number in self.ngrams.lookup(words.ngrams(self.ngram)):
            yield word, number, "ngram"
        for word, place in self.anchors.lookup(words.ngrams(_ANCHOR)):
            needle, before, number = self.substrings[place]
            if word >= before and words.stand_at(word - before, needle):
                yield word - before, number, "substring"


@dataclass(frozen=True, eq=False)
class _Index:
    """From hashes to numbers, with a filter before it that fits a processor's cache."""

    hashes: Hashes
    """Sorted."""
    first: NDArray[np.int64]
    """Where the numbers of each hash begin in `numbers`; one entry more than there are hashes."""
    numbers: NDArray[np.int64]
    filter: NDArray[np.bool_]
    """By the upper bits of a hash, whether any has them."""

    @classmethod
    def of(cls, numbers: Mapping[int, set[int]]) -> "_Index":
        ordered = sorted(numbers)
        hashes = np.array(ordered, np.uint64)
        first = np.cumsum([0, *(len(numbers[hash]) for hash in ordered)], dtype=np.int64)
        flat = np.array([number for hash in ordered for number in sorted(numbers[hash])], np.int64)
        bits = np.zeros(1 << _FILTER_BITS, np.bool_)
        bits[hashes >> np.uint64(64 - _FILTER_BITS)] = True
        return cls(hashes, first, flat, bits)

    def lookup(self, hashes: Hashes) -> Iterator[tuple[int, int]]:
        """Place and number for every one of some hashes that is here."""
        if not len(self.hashes):
            return
        places = np.flatnonzero(self.filter[hashes >> np.uint64(64 - _FILTER_BITS)])
        if not len(places):
            return
        found = np.minimum(np.searchsorted(self.hashes, hashes[places]), len(self.hashes) - 1)
        same = self.hashes[found] == hashes[places]
        for place, entry in zip(places[same].tolist(), found[same].tolist(), strict=True):
            for number in self.numbers[self.first[entry] : self.first[entry + 1]].tolist():
                yield place, number


@dataclass(frozen=True, eq=False)
class _Words:
    """A text as words, each followed by one space, with the prefix sums of the hashes of its bytes."""

    source: bytes
    kept: NDArray[np.bool_]
    """Which bytes of the source are those of `letters`."""
    letters: NDArray[np.uint8]
    starts: NDArray[np.intp]
    ends: NDArray[np.intp]
    sums: Hashes

    @classmethod
    def of(cls, text: str) -> "_Words":
        source = text.encode("utf-8", "replace") + b" "
        spaced = np.frombuffer(source.translate(_WORD_BYTES), np.uint8)
        is_word = spaced != _SPACE
        kept = is_word.copy()
        kept[1:] |= is_word[:-1]
        letters = spaced[kept]
        ends = np.flatnonzero(letters == _SPACE)
        starts = np.empty_like(ends)
        starts[:1] = 0
        starts[1:] = ends[:-1] + 1
        sums = np.empty(len(letters) + 1, np.uint64)
        sums[0] = 0
        values = _VALUES[letters]
        values *= _powers(_FACTOR, len(letters))
        np.cumsum(values, out=sums[1:])
        return cls(source, kept, letters, starts, ends, sums)

    def ngrams(self, n: int) -> Hashes:
        """The hash of every run of n words, by the number of its first word."""
        count = max(0, len(self.starts) - n + 1)
        starts = self.starts[:count]
        hashes = self.sums[self.ends[n - 1 :]] - self.sums[starts]
        hashes *= _powers(_INVERSE, len(self.letters))[starts]
        return hashes

    def spell(self) -> list[str]:
        return self.letters.tobytes().decode("utf-8", "replace").split(" ")[:-1]

    def stand_at(self, word: int, needle: bytes) -> bool:
        start = self.starts[word]
        return self.letters[start : start + len(needle)].tobytes() == needle

    def position(self, word: int) -> int:
        """The character of the text at which a word begins."""
        byte = int(np.flatnonzero(self.kept)[self.starts[word]])
        return len(self.source[:byte].decode("utf-8", "ignore"))


_known_powers: dict[int, Hashes] = {}


def _powers(factor: int, count: int) -> Hashes:
    """The first powers of a factor, from 1."""
    known = _known_powers.get(factor)
    if known is None or len(known) < count:
        length = 1 << max(16, count - 1).bit_length() if count > 1 << 16 else 1 << 16
        known = np.full(length, factor, np.uint64)
        known[0] = 1
        known = _known_powers[factor] = np.cumprod(known)
    return known[:count]


def _is_rare(word: str) -> bool:
    return len(word) >= 3 and word[0].isalpha() and word not in COMMON_WORDS


def _is_distinctive(words: Sequence[str]) -> bool:
    different = {word for word in words if word[0].isalpha()}
    rare = sum(map(_is_rare, different))
    return rare >= _RARE or (len(different) >= _DIFFERENT and (rare >= 1 or len(words) >= _LONG))


def _distinctive(words: Sequence[str], n: int) -> NDArray[np.bool_]:
    """Whether each run of n words is distinctive."""
    runs = (words[start : start + n] for start in range(len(words) - n + 1))
    return np.fromiter(map(_is_distinctive, runs), np.bool_)


def _anchored(text: str, min_length: int) -> Iterator[tuple[int, int, bytes]]:
    """A text as a substring, if long and distinctive enough: its anchor's hash and number of first word, its words."""
    words = _Words.of(text)
    spelled = words.spell()
    needle = words.letters.tobytes()
    if len(spelled) >= _ANCHOR and len(needle) >= min_length and _is_distinctive(spelled):
        runs = [set(spelled[start : start + _ANCHOR]) for start in range(len(spelled) - _ANCHOR + 1)]
        before = max(range(len(runs)), key=lambda run: (sum(map(_is_rare, runs[run])), sum(map(len, runs[run])), -run))
        yield int(words.ngrams(_ANCHOR)[before]), before, needle


def _is_shared(problems: Iterable[Problem]) -> bool:
    """Whether more problems of one benchmark than `_SHARED_BY` are among some."""
    return max(Counter(problem.benchmark for problem in problems).values()) > _SHARED_BY


class Contamination:
    """What was found in a corpus, for the report."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], dict[str, set[str]]] = {}

    def add(self, path: str, hits: Iterable[Hit]) -> None:
        """Record what was found in a file; `path` names it in the report."""
        for hit in hits:
            self._files.setdefault((hit.benchmark, hit.problem), {}).setdefault(path, set()).add(hit.kind)

    def merge(self, report: Mapping[str, Any]) -> None:
        """Add what `to_dict` gave for another part of the corpus."""
        for benchmark, entry in report.items():
            for problem, files in entry["problems"].items():
                for path, kinds in files.items():
                    self._files.setdefault((benchmark, problem), {}).setdefault(path, set()).update(kinds)

    def to_dict(self) -> dict[str, Any]:
        """By benchmark: the number of files and of problems found, and for every problem its files and the kinds."""
        report: dict[str, Any] = {}
        for (benchmark, problem), files in sorted(self._files.items()):
            entry = report.setdefault(benchmark, {"files": 0, "problems_found": 0, "problems": {}})
            entry["problems"][problem] = {path: sorted(files[path]) for path in sorted(files)}
        for entry in report.values():
            entry["problems_found"] = len(entry["problems"])
            entry["files"] = len({path for files in entry["problems"].values() for path in files})
        return report
