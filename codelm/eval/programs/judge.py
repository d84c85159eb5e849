"""The caller's side of judging whole programs: a pool of workers that hold one toolchain (`codelm.eval.judge.pool`)."""

from pathlib import Path

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.eval.judge.pool import JudgePool, Script
from codelm.eval.programs.toolchains import Found
from codelm.eval.programs.worker import COMPILE_WALL_SECONDS

_WORKER = Path(__file__).with_name("worker.py")
_PATIENCE = 4.0
"""Runtimes read hundreds of files as they start, and wait for them where others read too: CPU time is the measure."""


class ProgramJudge(JudgePool):
    """Worker processes that compile and run programs of one language; a context manager.

    A job's `program` is what is judged, its `test` what `marker.mark` has made; the rest of it is not looked at.

    Raises:
        EvaluationError: when this machine isolates less than `settings.min_level`.
        EnvironmentFailure: when no worker can be started.
    """

    def __init__(self, found: Found, settings: SandboxSection):
        patient = settings.model_copy(update={"wall_seconds": settings.wall_seconds * _PATIENCE})
        super().__init__(patient, Script(_WORKER, {"toolchain": found.to_dict()}, COMPILE_WALL_SECONDS))
