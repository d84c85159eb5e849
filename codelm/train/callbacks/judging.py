"""The judging of a training run's evaluations, one process after the other, beside the training.

`folder/ba000100/` holds what the model wrote at batch 100; it appears whole. When its benchmarks are scored, the
results are logged, once, as of batch 100, however late they come.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

from composer import Logger

from codelm.config.evaluation.sandbox import SandboxSection
from codelm.errors import EvaluationError
from codelm.eval import results
from codelm.eval.background import leave_to_judge, unjudged
from codelm.eval.records import Judged
from codelm.eval.report import chosen_samples, table_row
from codelm.train.callbacks.metrics_file import MetricsFile

log = logging.getLogger(__name__)

CODE_EVAL_FOLDER = "code_eval"
"""Of a save_folder."""

_LOGGED, _WORDS = "logged", "judge.log"
_ATTEMPTS = 2
_COLUMNS = ["task", "verdict", "detail", "completion"]
_PREFIX = "ba"


class Judging:
    """The evaluations that are being judged, wait for it, or have been judged and not been logged.

    Args:
        folder: of all evaluations of the run.
        sandbox: the bounds of each judged program.
    """

    def __init__(self, folder: Path, sandbox: SandboxSection) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.waiting: deque[Path] = deque()
        self.finished: list[Path] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.attempts = 0

    def begin(self, batch: int, tasks: dict[str, dict[str, Any]]) -> None:
        """Judge what a model wrote: for each benchmark the arguments of `leave_to_judge`."""
        place = self.folder / f"{_PREFIX}{batch:06d}"
        temporary = place.with_name(f".tmp-{place.name}")
        for old in (temporary, place):
            shutil.rmtree(old, ignore_errors=True)
        for name, task in tasks.items():
            leave_to_judge(temporary, name, **task)
        temporary.rename(place)
        self.waiting.append(place)
        self._go_on()

    def resume(self, batch: int) -> None:
        """Go on from what a run that was at `batch` has left: later evaluations go, unlogged ones are logged."""
        for place in sorted(self.folder.glob(f"{_PREFIX}*")):
            if not place.name.removeprefix(_PREFIX).isdigit():
                continue
            if _batch_of(place) > batch or batch == 0:
                shutil.rmtree(place, ignore_errors=True)
            elif not (place / _LOGGED).exists():
                self.waiting.append(place)
        self._go_on()

    def log_results(self, logger: Logger | MetricsFile, batch: int) -> None:
        """Log what has been judged by now of earlier batches than this; nothing is waited for."""
        self._go_on()
        while self.finished and _batch_of(self.finished[0]) < batch:
            place = self.finished.pop(0)
            try:
                for summary in sorted(place.glob(f"*/{results.SUMMARY}")):
                    _log(logger, summary.parent, _batch_of(place))
                (place / _LOGGED).touch()
            except (OSError, ValueError, KeyError, EvaluationError) as error:
                log.warning("the results of batch %d could not be read: %s", _batch_of(place), error)

    def wait(self) -> None:
        """Return when all is judged."""
        if self.waiting or self.process is not None:
            log.info("waiting for the judging of %d evaluations", len(self.waiting))
        while self.process is not None:
            self.process.wait()
            self._go_on()

    def stop(self) -> None:
        """End the judging where it is; a resumed run goes on with it."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
            self.process = None
        self.waiting.clear()

    def _go_on(self) -> None:
        """See whether the process has ended, and start the next."""
        if self.process is not None and self.process.poll() is not None:
            self._end()
        if self.process is None and self.waiting:
            self._start(self.waiting[0])

    def _start(self, place: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "codelm.eval.background",
            str(place.absolute()),
            self.sandbox.model_dump_json(),
        ]
        try:
            with (place / _WORDS).open("ab") as words:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=words,
                    stderr=words,
                    start_new_session=True,  # Ctrl-C is for the training, which ends the judging in order
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # a user's benchmarks
                )
        except OSError as error:
            log.warning("the judging of batch %d could not be started: %s", _batch_of(place), error)
            self.waiting.popleft()

    def _end(self) -> None:
        assert self.process is not None
        code, self.process = self.process.returncode, None
        place = self.waiting[0]
        self.attempts += 1
        left = unjudged(place)
        if left and self.attempts < _ATTEMPTS:
            return  # the same again
        self.waiting.popleft()
        self.attempts = 0
        self.finished.append(place)
        if left:
            names = ", ".join(path.name for path in left)
            log.warning(
                "the judging of %s at batch %d failed (exit code %d): %s", names, _batch_of(place), code, _last(place)
            )


def judge_the_rest(judging: Judging, metrics: MetricsFile, batch: int) -> None:
    """Judge what a run has left unjudged that was killed after its last batch, and write it to the run's metrics."""
    judging.resume(batch)
    try:
        judging.wait()
    finally:
        judging.stop()
    # All its batches are over.
    metrics.written = batch + 1
    judging.log_results(metrics, batch + 1)


def _log(logger: Logger | MetricsFile, place: Path, batch: int) -> None:
    summary = results.read_json(place / results.SUMMARY)
    values = {name: score["value"] for name, score in summary["scores"].items()}
    for kind, scores in summary.get("by_kind", {}).items():
        values |= {f"{kind}/{name}": score["value"] for name, score in scores.items()}
    prefix = f"eval/{place.name}"
    logger.log_metrics({f"{prefix}/{name}": value for name, value in values.items()}, step=batch)
    rows = results.read_lines(results.verdicts_file(place, summary["profile"]))
    shown = chosen_samples(Judged.from_dict(row) for row in rows)
    logger.log_table(_COLUMNS, [table_row(judged) for judged in shown], name=f"{prefix}/samples", step=batch)
    log.info("batch %d: %s: %s", batch, place.name, ", ".join(f"{name} {value:.4f}" for name, value in values.items()))


def _batch_of(place: Path) -> int:
    return int(place.name.removeprefix(_PREFIX))


def _last(place: Path) -> str:
    lines = (place / _WORDS).read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"
