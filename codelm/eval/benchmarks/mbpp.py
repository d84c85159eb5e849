"""MBPP: short Python programs by their description, with three tests each (Austin et al., 2021).

The prompt is InCoder's, as bigcode's harness has it: a docstring of the description and the first test.
"""

import ast
import builtins
import re

from codelm.config.evaluation.tasks import MbppSection
from codelm.errors import EvaluationError
from codelm.eval.benchmarks.files import Row, field, read_rows
from codelm.eval.problem import Problem

_SPLITS = {"prompt": (1, 10), "test": (11, 510), "validation": (511, 600), "train": (601, 974), "all": (1, 974)}
_CALLABLES = {name for name, value in vars(builtins).items() if callable(value)}
_MATCHES = {"re.search", "re.match", "re.fullmatch"}


def load(section: MbppSection) -> list[Problem]:
    """The problems of a split, in the order of the file.

    Raises:
        EvaluationError: the file is absent or not MBPP's.
    """
    where = f"tasks.mbpp.path: {section.path}"
    first, last = _SPLITS[section.split]
    rows = read_rows(section.path, "mbpp", [f"{section.variant}/"])
    return [
        problem(row, section.tests_shown, where)
        for row in sorted(rows, key=lambda row: _number(row, where))
        if first <= _number(row, where) <= last
    ]


def problem(row: Row, tests_shown: int, where: str) -> Problem:
    """A row in the format of either of MBPP's files."""
    task_id = f"MBPP/{_number(row, where)}"
    where = f"{where}: {task_id}"
    description, gold = field(row, ("text", "prompt"), where), field(row, ("code",), where).replace("\r\n", "\n")
    tests = [str(test) for test in field(row, ("test_list",), where)]
    setup = [*row.get("test_imports", ()), *(row.get("test_setup_code") or "").replace("\r\n", "\n").splitlines()]
    entry_point, judge = entry_point_and_judge(gold, "\n".join([*setup, *tests]), where)
    if entry_point == "check":
        setup.append("check = candidate")
    return Problem(
        task_id=task_id,
        prompt=prompt_of(description, tests[:tests_shown]),
        gold=gold.strip() + "\n",
        entry_point=entry_point,
        test=test_of(gold, [*setup, *_lines(tests)]),
        judge=judge,
        form="program",
    )


def prompt_of(description: str, tests: list[str]) -> str:
    """A docstring of a description and some tests, behind which the program begins."""
    lines = "\n".join([description.strip(), *(test.strip() for test in tests)])
    return f'"""\n{lines}\n"""\n'


def test_of(gold: str, statements: list[str]) -> str:
    """The source of `check(candidate)` with these lines, which may also use what the reference imports."""
    imports = [node for node in ast.parse(gold).body if isinstance(node, ast.Import | ast.ImportFrom)]
    lines = [*map(ast.unparse, imports), "def check(candidate):", *(f"    {line}" for line in statements)]
    return "\n".join(lines) + "\n"


def entry_point_and_judge(gold: str, tests: str, where: str) -> tuple[str, str]:
    """The function that the tests call, and the judge that they allow.

    Tests must run beside the program that use a second name of the reference, such as a class whose objects they pass
    on, that hand over a function or a type, or whose reference answers with a match of a regular expression.

    Raises:
        EvaluationError: the tests call nothing that the reference defines.
    """
    given, used = set(_defined(gold)), ast.parse(tests)
    called = [n.func.id for n in ast.walk(used) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    named = {node.id for node in ast.walk(used) if isinstance(node, ast.Name)}
    entries = [name for name in called if name in given]
    if not entries:
        raise EvaluationError(f"{where}: its tests call no function of its reference solution")
    literal = len(named & given) == 1 and not _passes_a_callable(used, given) and not _answers_with_a_match(gold)
    functions = [name for name in entries if _is_function(gold, name)]
    return (functions or entries)[0], "literal" if literal else "in_process"


def _defined(source: str) -> list[str]:
    nodes = ast.parse(source).body
    return [n.name for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]


def _passes_a_callable(tests: ast.AST, given: set[str]) -> bool:
    calls = [n for n in ast.walk(tests) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    passed = [node for call in calls if call.func.id in given for value in call.args for node in ast.walk(value)]  # pyright: ignore
    called = [node.func for node in passed if isinstance(node, ast.Call)]
    handed = [node for node in passed if isinstance(node, ast.Name) and node not in called]
    return any(node.id in _CALLABLES for node in handed) or any(isinstance(node, ast.Lambda) for node in passed)


def _answers_with_a_match(gold: str) -> bool:
    answers = [node.value for node in ast.walk(ast.parse(gold)) if isinstance(node, ast.Return)]
    return any(isinstance(a, ast.Call) and ast.unparse(a.func) in _MATCHES for a in answers)


def _is_function(source: str, name: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(source).body)


def _number(row: Row, where: str) -> int:
    number = re.sub(r"\D", "", str(field(row, ("task_id",), where)))
    if not number:
        raise EvaluationError(f"{where}: task_id {row['task_id']!r} is no number of MBPP")
    return int(number)


def _lines(tests: list[str]) -> list[str]:
    return [line for test in tests for line in test.replace("\r\n", "\n").splitlines()]
