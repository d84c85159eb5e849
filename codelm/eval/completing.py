"""The first stage: from prompts to completions, each kept as soon as it is finished."""

from collections.abc import Callable, Iterable

from torch import nn

from codelm.config.evaluation.tasks import TaskSection
from codelm.eval.postprocess import DEFAULT, PROFILES
from codelm.eval.prompts import Prompt, Tokenizer, special_ids
from codelm.eval.records import Completion, Key
from codelm.model.generation import generate, sample_seed

END_VERSION = 3
"""Rises with every change of where `end_at: program` ends a sample."""
_STOP_EVERY = 8


def complete(
    model: nn.Module,
    tokenizer: Tokenizer,
    section: TaskSection,
    seed: int,
    prompts: Iterable[Prompt],
    done: dict[Key, Completion],
    keep: Callable[[Completion], None],
) -> None:
    """Complete the prompts that are not done yet, into `done`.

    A sample depends on the seed, its problem and its number, not on its batch; `keep` is called with each as it ends.
    """
    missing = [prompt for prompt in prompts if prompt.key not in done]
    finished = PROFILES[DEFAULT].finished if section.end_at == "program" else None
    reserved = {*special_ids(tokenizer).values()} - {tokenizer.eos_id}

    def stop(place: int, ids: list[int]) -> bool:
        if ids[-1] in reserved:
            return True  # a new file, or another gap, is no part of this one
        if finished is None or len(ids) % _STOP_EVERY:
            return False
        prompt = missing[place]
        return finished(prompt.problem, tokenizer.decode_behind(ids).removeprefix(prompt.left_to_model))

    def finish(place: int, ids: list[int], reason: str) -> None:
        prompt = missing[place]
        if ids and ids[-1] in reserved:
            reason = "eos"
        completion = Completion(
            prompt.problem.task_id,
            prompt.sample,
            prompt.ids,
            prompt.left_out,
            prompt.left_to_model,
            ids,
            tokenizer.decode_behind(ids),
            reason,
        )
        done[prompt.key] = completion
        keep(completion)

    generate(
        model,
        [prompt.ids for prompt in missing],
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        max_new_tokens=section.max_new_tokens,
        vocab_size=tokenizer.vocab_size,
        temperature=section.temperature,
        top_p=section.top_p,
        seeds=[sample_seed(seed, *prompt.key) for prompt in missing],
        batch_size=section.batch_size,
        stop=stop,
        progress=finish,
    )
