"""Completions of fixed prompts while a run trains: what a loss does not show."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from composer import Callback, Event, Logger, State
from composer.utils import dist, reproducibility
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from codelm.config.training.monitors import SampleCompletionsSection
from codelm.model.generation import generate, max_length, sample_seed
from codelm.tokenizer import Tokenizer
from codelm.train.callbacks.lines import add_line, drop_later
from codelm.train.whole_model import whole_model

log = logging.getLogger(__name__)

SAMPLES_FILE = "samples.jsonl"


@dataclass(frozen=True)
class Prompt:
    """What is completed."""

    source: str
    """`prompt`, or the language of the held-out sample."""
    ids: tuple[int, ...]
    reference: tuple[int, ...] = ()
    """How a held-out sample goes on."""


class SampleCompletions(Callback):
    """Rank 0 completes; sharded weights are gathered once, by all ranks. What fails here is a warning."""

    def __init__(
        self,
        section: SampleCompletionsSection,
        is_due: Callable[[State, Event], bool],
        prompts: list[Prompt],
        tokenizer: Tokenizer,
        seed: int,
        file: Path,
        shell: Callable[[], PreTrainedModel],
    ) -> None:
        """`shell`: see `whole_model`."""
        self.section = section
        self.is_due = is_due
        self.prompts = prompts
        self.tokenizer = tokenizer
        self.seed = seed
        self.file = file
        self.shell = shell

    def fit_start(self, state: State, logger: Logger) -> None:
        if dist.get_global_rank() == 0:
            drop_later(self.file, int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        if not self.is_due(state, Event.BATCH_END):
            return
        before = reproducibility.get_rng_state()
        try:
            with whole_model(state.model, self.shell, state.device._device) as model:  # pyright: ignore
                if dist.get_global_rank() == 0:
                    self._complete(model, int(state.timestamp.batch))
        except (Exception, torch.cuda.OutOfMemoryError) as error:
            log.warning("sample completions were left out: %s: %s", type(error).__name__, error)
        reproducibility.load_rng_state(before)
        dist.barrier()

    def _complete(self, model: PreTrainedModel, batch: int) -> None:
        room = max_length(model)
        prompts = [list(prompt.ids if room is None else prompt.ids[-(room - 1) :]) for prompt in self.prompts]
        completed = generate(
            model,
            prompts,
            eos_id=self.tokenizer.eos_id,
            max_new_tokens=self.section.max_new_tokens,
            vocab_size=self.tokenizer.vocab_size,
            temperature=self.section.temperature,
            top_p=self.section.top_p,
            seeds=[sample_seed(self.seed, place) for place in range(len(prompts))],
        )
        for prompt, ids in zip(self.prompts, completed, strict=True):
            texts = {"prompt": prompt.ids, "completion": ids, "reference": prompt.reference}
            decoded = {name: self.tokenizer.decode(list(value)) for name, value in texts.items() if value}
            add_line(self.file, {"batch": batch, "source": prompt.source, **decoded})
        log.info("batch %d: %d completions in %s", batch, len(completed), self.file)


def prompts_of(
    section: SampleCompletionsSection, tokenizer: Tokenizer, held_out: Mapping[str, DataLoader]
) -> list[Prompt]:
    """The prompts of a run: those that are written down, then the beginnings of held-out documents."""
    found = [Prompt("prompt", tuple(tokenizer.encode(text))) for text in section.prompts]
    for label, loader in held_out.items():
        dataset: object = loader.dataset
        for number in range(min(section.held_out, len(dataset))):  # pyright: ignore[reportArgumentType]
            sample = dataset[number]  # pyright: ignore[reportIndexIssue]
            ids = (sample if sample.dim() == 1 else sample[0]).tolist()
            found.append(_cut(label, ids, section, tokenizer.eos_id))
    return [prompt for prompt in found if prompt.ids]


def _cut(label: str, ids: list[int], section: SampleCompletionsSection, eos_id: int) -> Prompt:
    """The beginning of the first document of a sample; of a short one its first half."""
    document = ids[: ids.index(eos_id)] if eos_id in ids else ids
    length = section.prompt_tokens if len(document) > section.prompt_tokens else len(document) // 2
    return Prompt(label, tuple(document[:length]), tuple(document[length : length + section.max_new_tokens]))
