"""Benchmarks during training: completions with the present weights, judged beside training, logged when they are ready.

All ranks complete their share of the prompts, each with a whole copy of the weights, so none waits for another until
all have finished. Rank 0 writes what they say to `save_folder/code_eval/ba<batch>/` and starts a process that judges
it; training goes on meanwhile.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from composer import Callback, Event, Logger, State
from composer.utils import dist, reproducibility
from transformers import PreTrainedModel

from codelm.config.training.callbacks import CodeEvalSection
from codelm.eval.problem import Benchmark
from codelm.eval.ranks import Ranks
from codelm.eval.run import Generated, describe, generate_stage
from codelm.tokenizer import Tokenizer
from codelm.train.callbacks.judging import Judging
from codelm.train.whole_model import whole_model

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Evaluated:
    """What a training run gives to its evaluations.

    Attributes:
        benchmarks: those to evaluate, by name; others of the section are left out.
        shell: see `whole_model`.
        moves: called while completions come, so that nobody takes a long evaluation for a hang.
    """

    benchmarks: dict[str, Benchmark]
    tokenizer: Tokenizer
    seed: int
    folder: Path
    shell: Callable[[], PreTrainedModel]
    moves: Callable[[], None]


class CodeEval(Callback):
    """Evaluates at an interval; a result is logged when it is there, with the batch that it is of.

    Training draws the random numbers that it would draw without it. What fails here is a warning, never the run's end.
    """

    def __init__(self, section: CodeEvalSection, is_due: Callable[[State, Event], bool], run: Evaluated) -> None:
        self.tasks = {name: task for name, task in section.tasks.chosen().items() if name in run.benchmarks}
        self.is_due = is_due
        self.run = run
        self.judging = Judging(run.folder, section.sandbox)

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            self.judging.resume(int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        if self.is_due(state, Event.BATCH_END):
            self._evaluate(state)
        if dist.get_global_rank() == 0:
            # A row of the loggers is a batch: what is of this or the last one would end up in the present row.
            self.judging.log_results(logger, int(state.timestamp.batch) - 1)

    def fit_end(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            self.judging.wait()
            self.judging.log_results(logger, int(state.timestamp.batch) + 1)

    def close(self, state: State, logger: Logger) -> None:
        self.judging.stop()

    def _evaluate(self, state: State) -> None:
        batch = int(state.timestamp.batch)
        before = reproducibility.get_rng_state()
        said, settings = self._generate(state)
        reproducibility.load_rng_state(before)
        parts = dist.all_gather_object(said)
        if dist.get_global_rank() != 0:
            return
        failures = [part for part in parts if isinstance(part, str)]
        if failures:
            log.warning("code evaluation at batch %d was left out: %s", batch, failures[0])
            return
        whole = [part for part in parts if not isinstance(part, str)]
        try:
            self.judging.begin(batch, {name: self._joined(name, whole, settings[name]) for name in self.tasks})
        except OSError as error:
            log.warning("code evaluation at batch %d was left out: %s", batch, error)

    def _generate(self, state: State) -> tuple[dict[str, Generated] | str, dict[str, Any]]:
        """What this rank's share of the prompts gave, or why it gave nothing; the others must not wait for it."""
        ranks = Ranks(dist.get_global_rank(), dist.get_world_size())
        run, said, settings = self.run, {}, {}
        try:
            with whole_model(state.model, run.shell, state.device._device) as model:  # pyright: ignore
                for name, section in self.tasks.items():
                    benchmark = run.benchmarks[name]
                    said[name] = generate_stage(
                        model, run.tokenizer, benchmark, section, run.seed, None, lambda *_: run.moves(), ranks
                    )
                    checkpoint = f"batch {int(state.timestamp.batch)}"
                    settings[name] = describe(model, run.tokenizer, benchmark, section, run.seed, checkpoint)
        except (Exception, torch.cuda.OutOfMemoryError) as error:
            return f"{type(error).__name__}: {error}", {}
        return said, settings

    def _joined(self, name: str, parts: list[dict[str, Generated]], settings: dict[str, Any]) -> dict[str, Any]:
        """All ranks' shares of a benchmark, as `leave_to_judge` takes them."""
        completions = {key: value for part in parts for key, value in part[name].completions.items()}
        gold = {key: row for part in parts for key, row in part[name].gold.items()}
        first = parts[0][name]
        return {
            "section": self.tasks[name],
            "settings": settings,
            "completions": Generated(first.prompts, completions, gold).in_order(),
            "gold": list(gold.values()),
        }
