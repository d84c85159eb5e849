"""A judge that runs nothing: says of completed files whether they parse, and of others that they are only compared."""

from collections.abc import Callable, Sequence
from typing import Self

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.judge.pool import limits_of
from codelm.eval.judge.verdict import COMPARED, PARSER, Job, Verdict
from codelm.eval.parsing import is_well_formed
from codelm.eval.sandbox.confine import Isolation

_ISOLATION = Isolation("nothing is run", False, 0, False)


class ParseJudge:
    """Judges jobs whose `judge` is `parser` by the parser of the language that `test` names; see `Judge`."""

    def __init__(self, settings: SandboxSection):
        self.isolation = _ISOLATION
        self.limits = limits_of(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def judge(self, jobs: Sequence[Job], progress: Callable[[Verdict], None] | None = None) -> list[Verdict]:
        """A verdict for each job, in their order."""
        verdicts = []
        for job in jobs:
            kind, detail = COMPARED, "nothing but its text is compared"
            if job.judge == PARSER:
                parses = is_well_formed(job.test, job.program)
                kind, detail = ("passed", "the file parses") if parses else ("failed", "the file does not parse")
            verdicts.append(Verdict(job.id, kind, detail, 0.0, 0.0, self.isolation.level, job.judge))
            if progress:
                progress(verdicts[-1])
        return verdicts
