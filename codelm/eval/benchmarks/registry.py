"""The benchmarks by name. Yours joins them by `tasks.custom.<name>.load`, or by `register` from your own code."""

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from codelm.config.evaluation.tasks import CustomSection, TaskSection
from codelm.config.suggest import closest
from codelm.errors import EvaluationError
from codelm.eval.benchmarks import held_out, humaneval, infilling, mbpp, multipl_e, plus, repository
from codelm.eval.problem import Benchmark, Problem

Loader = Callable[[Any], list[Problem] | Benchmark]
"""From its section of the YAML to its problems; to the whole benchmark where it brings a judge of its own."""

_TITLES: dict[str, str] = {}
_LOADERS: dict[str, Loader] = {}


def register(name: str, title: str, load: Loader) -> None:
    """Make a benchmark known by a name."""
    _TITLES[name], _LOADERS[name] = title, load


register("humaneval", "HumanEval", humaneval.load)
register("humaneval_plus", "HumanEval+", plus.load_humaneval_plus)
register("mbpp", "MBPP", mbpp.load)
register("mbpp_plus", "MBPP+", plus.load_mbpp_plus)
register("infilling", "HumanEval infilling", infilling.load)
register("multipl_e", "MultiPL-E", multipl_e.load)
register("held_out", "held-out files", held_out.load)
register("repository", "a repository's own tests", repository.load)


def names() -> list[str]:
    """All that are registered."""
    return list(_LOADERS)


def load_benchmark(name: str, section: TaskSection) -> Benchmark:
    """A benchmark's problems, the first `section.limit` of them.

    Raises:
        EvaluationError: it is unknown, its data absent or damaged, or not what its function should return.
    """
    family = section.group or name.partition("-")[0]
    if isinstance(section, CustomSection):
        load, title = _custom(name, section), name
    elif family in _LOADERS:
        load, title = _LOADERS[family], _TITLES[family]
    else:
        meant = closest(name, _LOADERS)
        hint = f"did you mean {meant}?" if meant else f"there are {', '.join(_LOADERS)}"
        raise EvaluationError(f"there is no benchmark {name}: {hint}")
    loaded = load(section)
    benchmark = loaded if isinstance(loaded, Benchmark) else Benchmark(name, title, loaded)
    problems = benchmark.problems
    if not problems:
        raise EvaluationError(f"tasks.{name}: no problems; choose another file or split")
    if len({problem.task_id for problem in problems}) != len(problems):
        raise EvaluationError(f"tasks.{name}: two problems have the same task_id; each needs its own")
    title = name if section.group else benchmark.title
    return replace(benchmark, name=name, title=title, problems=problems[: section.limit])


def _custom(name: str, section: CustomSection) -> Loader:
    module, _, function = section.load.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)  # as `python -m` would find it
    try:
        load = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise EvaluationError(f"tasks.custom.{name}.load: {section.load} cannot be imported: {error}") from None

    def checked(section: CustomSection) -> list[Problem]:
        problems = load(section)
        if not isinstance(problems, list) or not all(isinstance(problem, Problem) for problem in problems):
            raise EvaluationError(f"tasks.custom.{name}.load: {section.load} must return a list of Problems")
        return problems

    return checked
