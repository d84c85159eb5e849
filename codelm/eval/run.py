"""A benchmark from a model to a score: complete, judge, score, and keep every step on disk.

    problems ──► prompts ──► completions (samples.jsonl) ──► verdicts (verdicts.<profile>.jsonl) ──► summary.json

Each stage finds what is there and does the rest. The ranks share the first one; the others are the first rank's.
"""

import contextlib
import hashlib
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

import codelm
from codelm.config.evaluation.sandbox import SandboxSection
from codelm.config.evaluation.tasks import TaskSection
from codelm.eval import results
from codelm.eval.assess import assess
from codelm.eval.completing import END_VERSION, complete
from codelm.eval.gold import measure_gold
from codelm.eval.postprocess import PROFILES
from codelm.eval.problem import Benchmark
from codelm.eval.prompts import Prompt, Tokenizer, build_prompts
from codelm.eval.ranks import Ranks
from codelm.eval.records import Completion, Key, by_key
from codelm.eval.scoring import Result
from codelm.model.generation import generate

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


@dataclass
class Generated:
    """What the model had to say: completions in the order of the prompts, and the references' bits."""

    prompts: list[Prompt]
    completions: dict[Key, Completion]
    gold: dict[str, dict[str, Any]]

    def in_order(self) -> list[Completion]:
        """The completions in the order of the prompts."""
        return [self.completions[prompt.key] for prompt in self.prompts]


def evaluate(
    model: nn.Module,
    tokenizer: Tokenizer,
    benchmark: Benchmark,
    section: TaskSection,
    sandbox: SandboxSection,
    seed: int,
    folder: Path | None = None,
    progress: Progress | None = None,
    checkpoint: str | None = None,
    ranks: Ranks | None = None,
) -> Result | None:
    """Score a model on a benchmark; neither its mode nor the global random state moves.

    Args:
        model: a causal language model of transformers (or of ours), whole on one device; the same on every rank.
        folder: where to keep everything, and to go on from what is there; None keeps nothing (one rank only).
        checkpoint: what the model is called in the record.
        ranks: of several processes with the same arguments.

    Returns:
        The result, on the first rank; None on the others.

    Raises:
        EvaluationError: when the sandbox is below its floor, a prompt cannot be made, or the folder holds another
            evaluation; on every rank, when it is so on one.
    """
    ranks = ranks or Ranks()
    profile = PROFILES[section.postprocess]
    if not ranks.first:
        with ranks.together():
            pass  # the first one opens the folder
        with ranks.together():
            generate_stage(model, tokenizer, benchmark, section, seed, folder, None, ranks)
        return None
    with contextlib.ExitStack() as stack:
        with ranks.together():
            judge = stack.enter_context(benchmark.open_judge(sandbox))
            settings = describe(model, tokenizer, benchmark, section, seed, checkpoint)
            settings |= {"sandbox": judge.isolation.level, "limits": judge.limits.to_dict()}
            if folder is not None:
                results.open_folder(folder, {**settings, "weights_sha256": weights_hash(model)})
        with ranks.together():
            generated = generate_stage(model, tokenizer, benchmark, section, seed, folder, progress, ranks)
        if folder is not None:
            generated = _gather(folder, generated, benchmark, section)
        return assess(judge, benchmark, generated.in_order(), generated.gold, profile, settings, folder, progress)


def generate_stage(
    model: nn.Module,
    tokenizer: Tokenizer,
    benchmark: Benchmark,
    section: TaskSection,
    seed: int,
    folder: Path | None,
    progress: Progress | None,
    ranks: Ranks,
) -> Generated:
    """Complete this rank's share of the prompts that have no completion yet, and measure its share of the references.

    Every finished sample is on disk at once.
    """
    all_prompts = build_prompts(model, tokenizer, section, benchmark.problems)
    prompts = [prompt for prompt in all_prompts if prompt.problem.completed]
    known = [prompt for prompt in all_prompts if prompt.sample == 0 and prompt.problem.has_bits]
    found = results.read_all_ranks(folder / results.SAMPLES) if folder else []
    done = by_key(Completion(**row) for row in found)
    measured = results.read_all_ranks(folder / results.GOLD) if folder else []
    gold = {row["task_id"]: row for row in measured}
    mine = ranks.share(prompts)
    wanted = {prompt.key for prompt in mine}

    def report(stage: str, count: int, total: int) -> None:
        if progress:
            progress(stage, count, total)

    def keep(completion: Completion) -> None:
        if folder:
            results.append_line(results.of_rank(folder / results.SAMPLES, ranks.rank), completion.to_dict())
        report("generate", len(done.keys() & wanted), len(mine))

    def keep_bits(row: dict[str, Any]) -> None:
        if folder:
            results.append_line(results.of_rank(folder / results.GOLD, ranks.rank), row)
        report("gold", len(gold), len(references))

    report("generate", len(done.keys() & wanted), len(mine))
    complete(model, tokenizer, section, seed, mine, done, keep)
    references = ranks.share(known) if section.gold else []
    measure_gold(model, tokenizer, references, gold, keep_bits)
    return Generated(prompts, done, gold)


def preview(
    model: nn.Module,
    tokenizer: Tokenizer,
    benchmark: Benchmark,
    section: TaskSection,
    sandbox: SandboxSection,
) -> str:
    """Check all that an evaluation needs, generate one token, and say what an evaluation would do.

    Raises:
        EvaluationError: as `evaluate`.
    """
    prompts = build_prompts(model, tokenizer, section, benchmark.problems)
    with benchmark.open_judge(sandbox.model_copy(update={"num_workers": 1})) as judge:
        isolation = judge.isolation
    shortest = min(prompts, key=lambda prompt: len(prompt.ids))
    generate(model, [shortest.ids], eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id, max_new_tokens=1)
    lengths = [len(prompt.ids) for prompt in prompts]
    parameter = next(model.parameters())
    return (
        f"would complete {len(benchmark.problems)} problems of {benchmark.title}, {section.num_samples} times each, on"
        f" {parameter.device.type} in {str(parameter.dtype).removeprefix('torch.')}: prompts of {min(lengths)} to"
        f" {max(lengths)} tokens ({sum(prompt.left_out > 0 for prompt in prompts)} do not fit), at most"
        f" {section.max_new_tokens} new ones; then judge them at level {isolation.describe()}"
    )


def describe(
    model: nn.Module,
    tokenizer: Tokenizer,
    benchmark: Benchmark,
    section: TaskSection,
    seed: int,
    checkpoint: str | None,
) -> dict[str, Any]:
    """All that completions depend on: what settings.json holds, and what it takes to repeat a score."""
    parameter = next(model.parameters())
    # The profile is the scores' business: other ones may be applied to the same completions.
    chosen = section.model_dump(exclude={"postprocess", "gold", "end_at"})
    return {
        "benchmark": benchmark.name,
        "problems": len(benchmark.problems),
        "problems_sha256": benchmark.sha256(),
        "prompts": "aligned-1",
        "prompts_sha256": benchmark.prompts_sha256(),
        "checkpoint": checkpoint,
        "tokenizer": tokenizer.fingerprint().to_dict(),
        "seed": seed,
        **chosen,
        "end_at": f"program-{END_VERSION}" if section.end_at == "program" else section.end_at,
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "device": parameter.device.type,
        "versions": {
            "codelm": codelm.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
            **benchmark.versions,
        },
    }


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _gather(folder: Path, generated: Generated, benchmark: Benchmark, section: TaskSection) -> Generated:
    """What all ranks have generated, as one file each."""
    completions = by_key(Completion(**row) for row in results.read_all_ranks(folder / results.SAMPLES))
    whole = Generated(generated.prompts, completions, {})
    results.gather_ranks(folder / results.SAMPLES, (completion.to_dict() for completion in whole.in_order()))
    if section.gold:
        rows = {row["task_id"]: row for row in results.read_all_ranks(folder / results.GOLD)}
        whole.gold = {problem.task_id: rows[problem.task_id] for problem in benchmark.problems if problem.has_bits}
        results.gather_ranks(folder / results.GOLD, whole.gold.values())
    return whole
