"""MultiPL-E: HumanEval and MBPP in other languages (Cassano et al., 2022), each problem a program with its tests.

There are no references. A program's tests run in its own process, so the judge is `in_process`: a marker with a nonce
that their last statement prints. The published runner takes exit status 0 for a pass, and a full pipe for a timeout.
"""

from functools import partial
from pathlib import Path

from codelm.config.evaluation.tasks import MultiplESection
from codelm.errors import EvaluationError
from codelm.eval.benchmarks.files import Row, field, read_rows
from codelm.eval.problem import Benchmark, Problem
from codelm.eval.programs import toolchains
from codelm.eval.programs.judge import ProgramJudge
from codelm.eval.programs.marker import mark

_ENDINGS = (".jsonl.gz", ".jsonl", ".json", ".parquet")


def load(section: MultiplESection) -> Benchmark:
    """The problems of one language, in the order of the file.

    Raises:
        EvaluationError: the language's toolchain or file is absent, or the file is another's.
    """
    (language,) = section.languages
    try:
        found = toolchains.find(language)
    except EvaluationError as error:
        raise EvaluationError(f"tasks.multipl_e.languages: {language}: {error}") from None
    path = _file(section, language)
    where = f"tasks.multipl_e.path: {path}"
    rows = read_rows(path, "multipl_e", [f"{section.variant}-{language}/"])
    return Benchmark(
        name=f"multipl_e-{language}",
        title=f"MultiPL-E {section.variant} {found.toolchain.title}",
        problems=[_problem(row, language, where) for row in rows],
        open_judge=partial(ProgramJudge, found),
        versions={found.toolchain.needs[0][0]: found.version},
    )


def _file(section: MultiplESection, language: str) -> str:
    folder = Path(section.path).expanduser()
    if section.path.startswith("hf://") or not folder.is_dir():
        return section.path
    names = [f"{section.variant}-{language}{ending}" for ending in _ENDINGS]
    return str(next((folder / name for name in names if (folder / name).exists()), folder / names[0]))


def _problem(row: Row, language: str, where: str) -> Problem:
    task_id, prompt, tests, stop, own = (
        field(row, (name,), where) for name in ("name", "prompt", "tests", "stop_tokens", "language")
    )
    # The file's `language` is an ending: `go_test.go` is Go.
    if own.rpartition(".")[2] != language:
        raise EvaluationError(f"{where} holds problems in {own}, not {language}; give the folder of all files")
    return Problem(
        task_id=task_id,
        prompt=prompt,
        test=mark(language, tests, f"{where}: {task_id}"),
        judge="in_process",
        language=toolchains.TOOLCHAINS[language].language,
        stop=tuple(stop),
    )
