"""HumanEval+ and MBPP+: the same problems with many more tests (Liu et al., 2023), from EvalPlus's files or the hub.

EvalPlus's own files hold inputs; what is right is what the reference answers, computed by the tests' process. The hub's
hold tests as programs. Both compare floats with numpy; the tests' process has the standard library only, so a few lines
stand in for the part of numpy that they use.
"""

import json
import re

from codelm.config.evaluation.tasks import HumanEvalPlusSection, MbppPlusSection
from codelm.errors import EvaluationError
from codelm.eval.benchmarks import mbpp
from codelm.eval.benchmarks.files import Row, field, read_rows
from codelm.eval.problem import Problem

_PATIENCE = 6.0
"""A thousand inputs a problem, some with answers of megabytes, which take the tests' side longer than the program."""

_NUMPY = """
class np:
    ndarray, float64, float32 = (), float, float

    @staticmethod
    def allclose(out, exp, rtol=1e-05, atol=1e-08):
        if isinstance(exp, (list, tuple)) or isinstance(out, (list, tuple)):
            assert len(out) == len(exp)
            return all(np.allclose(a, b, rtol, atol) for a, b in zip(out, exp))
        return out == exp or abs(out - exp) <= atol + rtol * abs(exp)
"""

_COMPARE = """
import copy, json

def floats(value):
    return isinstance(value, float) or (isinstance(value, (list, tuple)) and all(isinstance(v, float) for v in value))

def compare(out, right, atol):
    if atol == 0 and floats(right):
        atol = 1e-06
    assert out == right or (atol != 0 and np.allclose(out, right, 1e-07, atol))

def check(candidate):
    reference = {}
    exec(REFERENCE, reference)
    for arguments in json.loads(INPUTS):
        right = reference[ENTRY_POINT](*copy.deepcopy(arguments))
        compare(candidate(*arguments), right, ATOL)
"""

# Any root of the polynomial is right, not the reference's alone.
_ROOT = """
import json

def check(candidate):
    for (coefficients,) in json.loads(INPUTS):
        root = candidate(coefficients)
        assert abs(sum(c * root**power for power, c in enumerate(coefficients))) <= ATOL
"""


def load_humaneval_plus(section: HumanEvalPlusSection) -> list[Problem]:
    """HumanEval+, in the order of its file.

    Raises:
        EvaluationError: the file is absent or of another benchmark.
    """
    where = f"tasks.humaneval_plus.path: {section.path}"
    rows = read_rows(section.path, "humaneval_plus", [".parquet"])
    return [_humaneval_plus(row, where) for row in rows]


def load_mbpp_plus(section: MbppPlusSection) -> list[Problem]:
    """MBPP+, in the order of its file.

    Raises:
        EvaluationError: the file is absent or of another benchmark.
    """
    where = f"tasks.mbpp_plus.path: {section.path}"
    rows = read_rows(section.path, "mbpp_plus", [".parquet"])
    return [_mbpp_plus(row, section.tests_shown, where) for row in rows]


def _humaneval_plus(row: Row, where: str) -> Problem:
    names = ("task_id", "prompt", "canonical_solution", "entry_point")
    task_id, prompt, gold, entry_point = (field(row, (name,), where) for name in names)
    if "plus_input" in row:
        # JSON within the source: inputs are hundreds of kilobytes, which Python's own parser takes seconds for.
        values = {
            "INPUTS": json.dumps(row["base_input"] + row["plus_input"]),
            "ATOL": row["atol"],
            "ENTRY_POINT": entry_point,
            "REFERENCE": prompt + gold,
        }
        constants = "".join(f"{name} = {value!r}\n" for name, value in values.items())
        test = constants + (_ROOT if entry_point == "find_zero" else _NUMPY + _COMPARE)
    else:
        # The published test of HumanEval/32 mixes up two arguments, and fails its own reference.
        test = field(row, ("test",), where).replace("_poly(*candidate(*inp), inp)", "abs(_poly(*inp, candidate(*inp)))")
        test = _without_numpy(test)
    return Problem(task_id, prompt, gold, entry_point=entry_point, prelude=prompt, test=test, patience=_PATIENCE)


def _mbpp_plus(row: Row, tests_shown: int, where: str) -> Problem:
    if "plus_input" in row:
        raise EvaluationError(
            f"{where}: EvalPlus's MbppPlus.jsonl writes tuples and sets as lists, so it cannot be judged from it; take"
            " the hub's dataset evalplus/mbppplus, or a Parquet file of it"
        )
    task_id = f"MBPP/{field(row, ('task_id',), where)}"
    where = f"{where}: {task_id}"
    gold = field(row, ("code",), where).replace("\r\n", "\n").strip() + "\n"
    tests = [str(test) for test in field(row, ("test_list",), where)]
    test = _without_numpy(field(row, ("test",), where))
    entry_point, judge = mbpp.entry_point_and_judge(gold, test, where)
    if "def check(" not in test:
        test += "\ndef check(candidate):\n    pass  # the lines above have called it by its name\n"
    return Problem(
        task_id=task_id,
        prompt=mbpp.prompt_of(field(row, ("prompt", "text"), where), tests[:tests_shown]),
        gold=gold,
        entry_point=entry_point,
        test=test,
        judge=judge,
        patience=_PATIENCE,
        form="program",
    )


def _without_numpy(test: str) -> str:
    return re.sub(r"^import numpy as np$", lambda _: _NUMPY, test, count=1, flags=re.MULTILINE)
