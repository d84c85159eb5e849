"""HumanEval infilling: a line, lines or a span of HumanEval's references is to be filled in (Bavarian et al., 2022)."""

from pathlib import Path

from codelm.config.evaluation.tasks import InfillingSection
from codelm.errors import EvaluationError
from codelm.eval.benchmarks.files import field, read_rows
from codelm.eval.problem import Problem

_FILES = {
    "single-line": "HumanEval-SingleLineInfilling.jsonl.gz",
    "multi-line": "HumanEval-MultiLineInfilling.jsonl.gz",
    "random-span": "HumanEval-RandomSpanInfilling.jsonl.gz",
    "random-span-light": "HumanEval-RandomSpanInfillingLight.jsonl.gz",
}
_ONE_LINE = "SingleLineInfilling/"


def load(section: InfillingSection) -> list[Problem]:
    """The problems, in the order of the file.

    Raises:
        EvaluationError: the file is absent or not of this benchmark.
    """
    path, name = section.path, _FILES[section.variant]
    if Path(path).expanduser().is_dir():
        path = str(Path(path).expanduser() / name)
    where = f"tasks.infilling.path: {path}"
    names = ("task_id", "prompt", "suffix", "canonical_solution", "test", "entry_point")
    problems = []
    for row in read_rows(path, "infilling", [name.removesuffix("jsonl.gz")]):
        task_id, prompt, suffix, gold, test, entry_point = (field(row, (name,), where) for name in names)
        if entry_point not in prompt + gold + suffix:
            raise EvaluationError(f"{where}: {task_id} does not define {entry_point}; copy the file again")
        problems.append(
            Problem(
                task_id=task_id,
                prompt=prompt,
                gold=gold,
                suffix=suffix,
                entry_point=entry_point,
                # Tests may use imports and helpers of the text around; the reference is a whole program.
                prelude=prompt + gold + suffix,
                test=test,
                form="infill",
                lines=1 if task_id.startswith(_ONE_LINE) else None,
            )
        )
    return problems
