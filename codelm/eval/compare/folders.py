"""The folders that evaluations left, read back: what each system reached on each benchmark."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codelm.config.suggest import closest
from codelm.errors import EvaluationError
from codelm.eval import results
from codelm.eval.compare.measures import Measures, kind_of, read_measures

_VERDICTS_OF_JUDGE = "verdicts.jsonl"
"""What eval/judge.py leaves."""
_KINDS = {"masks": "repository", "gaps": "held_out", "load": "custom"}
"""Tasks that have names of their own, by a key of their sections."""


@dataclass(frozen=True)
class Evaluated:
    """A benchmark as one system did it.

    Attributes:
        settings: what decided its completions.
        profile: what its completions were cut by; None where nothing was judged.
        measures: a number for each metric and problem.
        clusters: by problem, what it shares with those that are not independent of it.
        verdicts: the lines of the verdicts by problem, in the order of the samples.
    """

    name: str
    title: str
    folder: Path
    settings: dict[str, Any]
    profile: str | None
    measures: Measures
    clusters: dict[str, str]
    verdicts: dict[str, list[dict[str, Any]]]

    def of_kind(self, kind: str) -> "Evaluated":
        """The same with the problems of one kind of gap alone."""
        cut = {
            metric: {task_id: one for task_id, one in values.items() if kind_of(task_id) == kind}
            for metric, values in self.measures.items()
        }
        return replace(self, measures={metric: values for metric, values in cut.items() if values})

    def unjudged(self) -> int:
        """Completions on which the judge broke; they count as failed."""
        return sum(row["verdict"] == "unjudged" for rows in self.verdicts.values() for row in rows)


@dataclass(frozen=True)
class System:
    """A checkpoint by what it was evaluated on.

    Attributes:
        name: as it is called on the page.
        benchmarks: by their names.
    """

    name: str
    benchmarks: dict[str, Evaluated] = field(default_factory=dict)

    @property
    def checkpoints(self) -> list[str]:
        """What was evaluated, as the settings say."""
        named = (one.settings.get("checkpoint") for one in self.benchmarks.values())
        return sorted({str(checkpoint) for checkpoint in named if checkpoint})


def is_results_folder(path: Path) -> bool:
    """Whether an evaluation has written here; a checkpoint otherwise."""
    return bool(_benchmark_folders(path))


def read_system(name: str, path: Path, wanted: Collection[str] = (), profile: str | None = None) -> System:
    """What an evaluation left in its output folder, or in that of one benchmark.

    Args:
        wanted: names of benchmarks, or how they begin; all where it is empty.
        profile: score with this one instead of the last that was used.

    Raises:
        EvaluationError: nothing is there, it is not finished, or damaged.
    """
    folders = [(folder, _settings(folder)) for folder in _benchmark_folders(path)]
    if not folders:
        raise EvaluationError(f"{path} holds no evaluation; name an output_folder of eval/main.py")
    for begin in wanted:
        if not any(begins(settings, begin) for _, settings in folders):
            known = [settings["benchmark"] for _, settings in folders]
            meant = closest(begin, known)
            hint = f"did you mean {meant}?" if meant else f"there are {', '.join(known)}"
            raise EvaluationError(f"--benchmarks {begin}: {path} has no such benchmark; {hint}")
    read = [
        _read(folder, profile)
        for folder, settings in folders
        if not wanted or any(begins(settings, begin) for begin in wanted)
    ]
    return System(name, {one.name: one for one in read})


def begins(settings: dict[str, Any], begin: str) -> bool:
    """Whether the benchmark's name begins so, or that of its kind: one of a repository may have any name."""
    kind = next((kind for key, kind in _KINDS.items() if key in settings), "")
    return settings["benchmark"].startswith(begin) or kind.startswith(begin)


def names_of(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """A name and the path or hub id for each argument: as given (`NAME=PATH`), or where the paths differ.

    Raises:
        EvaluationError: two have the same name.
    """
    given = [argument.partition("=") for argument in arguments]
    paths = [path if equals else whole for whole, equals, path in given]
    parts = [Path(path).parts for path in paths]
    same_end = _common([tuple(reversed(one)) for one in parts])
    cut = [one[: len(one) - same_end] if len(one) > same_end else one for one in parts]
    same_begin = _common(cut)
    short = ["-".join(one[min(same_begin, len(one) - 1) :]).strip("-/ ") or "system" for one in cut]
    named = [first if equals else name for (first, equals, _), name in zip(given, short, strict=True)]
    unfit = [name for name in named if not name or "/" in name or name.startswith(".")]
    if unfit:
        raise EvaluationError(f"`{unfit[0]}` cannot be the name of a folder; write NAME=PATH with another")
    if len(set(named)) < len(named):
        raise EvaluationError(f"two of the arguments are called {named[-1]}; write NAME=PATH to tell them apart")
    return list(zip(named, paths, strict=True))


def _common(sequences: Sequence[tuple[str, ...]]) -> int:
    if len(sequences) < 2:
        return 0
    return next(
        (place for place, parts in enumerate(zip(*sequences, strict=False)) if len(set(parts)) > 1),
        min(map(len, sequences)),
    )


def _benchmark_folders(path: Path) -> list[Path]:
    if not path.is_dir():
        return []
    found = [path, *sorted(entry for entry in path.iterdir() if entry.is_dir())]
    return [folder for folder in found if (folder / results.SETTINGS).is_file() and "benchmark" in _settings(folder)]


def _settings(folder: Path) -> dict[str, Any]:
    try:
        settings = results.read_json(folder / results.SETTINGS)
    except ValueError:
        raise EvaluationError(f"{folder / results.SETTINGS} is damaged: evaluate again into another folder") from None
    return settings if isinstance(settings, dict) else {}


def _read(folder: Path, profile: str | None) -> Evaluated:
    settings = _settings(folder)
    try:
        summary = json.loads((folder / results.SUMMARY).read_text(encoding="utf-8"))
        name, title = summary["benchmark"], summary["title"]
    except OSError:
        raise EvaluationError(f"{folder} is not finished: run the evaluation that writes it again first") from None
    except (ValueError, KeyError):
        raise EvaluationError(f"{folder / results.SUMMARY} is damaged: run the evaluation again") from None
    used = summary.get("profile")
    file = results.verdicts_file(folder, used) if used else folder / _VERDICTS_OF_JUDGE
    if profile is not None and used is not None:
        file = _of_profile(folder, profile)
        used = file.name.removeprefix("verdicts.").removesuffix(".jsonl")
    elif not file.exists():
        file = folder / _VERDICTS_OF_JUDGE
    verdicts: dict[str, list[dict[str, Any]]] = {}
    try:
        measures, clusters = read_measures(folder, file)
        for row in results.read_lines(file):
            verdicts.setdefault(row["task_id"], []).append(row)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise EvaluationError(f"{folder} holds lines that are none of an evaluation's ({error!r})") from None
    if not measures:
        raise EvaluationError(f"{folder} holds no result of any problem: run the evaluation again")
    return Evaluated(name, title, folder, settings, used if verdicts else None, measures, clusters, verdicts)


def _of_profile(folder: Path, profile: str) -> Path:
    files = [*folder.glob(f"verdicts.{profile}.jsonl"), *sorted(folder.glob(f"verdicts.{profile}-*.jsonl"))]
    files = [file for file in files if "." not in file.name.removeprefix("verdicts.").removesuffix(".jsonl")]
    if not files:
        raise EvaluationError(
            f"{folder} was never scored with the profile {profile}: run the evaluation with"
            f" tasks.{_settings(folder)['benchmark']}.postprocess={profile} once, which generates nothing"
        )
    return files[-1]
