"""HumanEval from a model to a score: generate, post-process, judge, score, and keep every step on disk."""

import hashlib
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import transformers
from torch import nn

import codelm
from codelm.config.eval import HumanEvalSection, SandboxSection
from codelm.errors import EvaluationError
from codelm.eval import humaneval, results
from codelm.eval.gold import gold_bits
from codelm.eval.humaneval import Problem
from codelm.eval.judge.pool import JudgePool, limits_of
from codelm.eval.judge.verdict import Verdict
from codelm.eval.postprocess import PROFILES, Profile
from codelm.eval.sandbox.confine import Isolation
from codelm.eval.statistics import Score, score_mean, score_pass_at_k
from codelm.model.generation import generate, max_length, sample_seed

KS = (1, 10, 100)
_LEAST_ROOM = 128
_STOP_EVERY = 8

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and how much there is."""


class Tokenizer(Protocol):
    """What an evaluation needs of `codelm.tokenizer`'s classes."""

    eos_id: int
    pad_id: int

    @property
    def vocab_size(self) -> int:
        """Ids are below it."""
        ...

    def encode(self, text: str) -> list[int]:
        """Raw ids, nothing added."""
        ...

    def decode(self, ids: Any) -> str:
        """The inverse of `encode`."""
        ...

    def decode_behind(self, ids: Any) -> str:
        """The text that ids add behind other text."""
        ...

    def fingerprint(self) -> Any:
        """What identifies it."""
        ...


@dataclass(frozen=True)
class Completion:
    """One sample, as it came and as it was judged.

    Attributes:
        prompt_ids: what the model saw.
        prompt_left_out: tokens of the prompt it did not see, cut from the left to fit its length.
        ids: new tokens, without EOS.
        text: of `ids`; it may begin with the prompt's last line end, which was then not among `prompt_ids`.
        reason: why it ended: eos, stop or length.
        completion: what follows the whole prompt, after post-processing.
    """

    task_id: str
    sample: int
    prompt_ids: list[int]
    prompt_left_out: int
    ids: list[int]
    text: str
    reason: str
    completion: str


@dataclass(frozen=True)
class HumanEvalResult:
    """What came out: scores first, and all that they rest on.

    Attributes:
        scores: by name: pass@k for each k up to the number of samples, and `humaneval_gold_bpb` (bits per byte).
        kinds: how many verdicts of each kind.
    """

    scores: dict[str, Score]
    kinds: dict[str, int]
    completions: list[Completion]
    verdicts: list[Verdict]
    isolation: Isolation
    prompts_shortened: int

    @property
    def pass_at_1(self) -> Score:
        """The score that is always there."""
        return self.scores["pass@1"]

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "scores": {name: score.to_dict() for name, score in self.scores.items()},
            "verdicts": self.kinds,
            "isolation": self.isolation.to_dict(),
            "prompts_shortened": self.prompts_shortened,
        }


@dataclass(frozen=True)
class _Task:
    problem: Problem
    sample: int
    prompt_ids: list[int]
    left_out: int
    tail: str
    """The prompt's last whitespace, which the model is left to write itself (see `_aligned`)."""

    def completion_of(self, text: str) -> str:
        """What follows the whole prompt, of what the model wrote."""
        return text.removeprefix(self.tail)

    @property
    def key(self) -> tuple[str, int]:
        return self.problem.task_id, self.sample


def evaluate_humaneval(
    model: nn.Module,
    tokenizer: Tokenizer,
    section: HumanEvalSection,
    sandbox: SandboxSection,
    seed: int,
    output_folder: str | Path | None = None,
    progress: Progress | None = None,
    checkpoint: str | None = None,
) -> HumanEvalResult:
    """Score a model on HumanEval; neither its mode nor the global random state moves.

    Args:
        model: a causal language model of transformers (or of ours), whole on one device.
        output_folder: where to keep samples.jsonl, results.jsonl, gold.jsonl, summary.json and settings.json, and to
            go on from when they are there; None keeps nothing.
        checkpoint: what the model is called in the record.

    Raises:
        EvaluationError: when the sandbox is below its floor, HumanEval is not installed, or the folder holds another
            evaluation.
    """
    problems = humaneval.load_problems(section.limit)
    profile = PROFILES[section.postprocess]
    with JudgePool(sandbox) as pool:
        settings = _settings(model, tokenizer, section, sandbox, seed, problems, profile, pool.isolation, checkpoint)
        folder = Path(output_folder) if output_folder is not None else None
        if folder is not None:
            results.open_folder(folder, {**settings, "weights_sha256": weights_hash(model)})
        tasks = _tasks(model, tokenizer, section, problems)
        completions = _generate(model, tokenizer, section, profile, seed, tasks, folder, progress)
        verdicts = _judge(pool, problems, completions, folder, progress)
        isolation = pool.isolation
    scores = _pass_at_k(verdicts, completions, section.num_samples, settings)
    scores.append(_gold(model, tokenizer, problems, folder, settings, progress))
    result = HumanEvalResult(
        scores={score.name: score for score in scores},
        kinds=dict(Counter(verdict.kind for verdict in verdicts)),
        completions=completions,
        verdicts=verdicts,
        isolation=isolation,
        prompts_shortened=len({task.problem.task_id for task in tasks if task.left_out}),
    )
    if folder is not None:
        results.write_json(folder / results.SUMMARY, result.summary())
    return result


def preview_humaneval(
    model: nn.Module, tokenizer: Tokenizer, section: HumanEvalSection, sandbox: SandboxSection
) -> str:
    """Check all that an evaluation needs, generate one token, and say what an evaluation would do.

    Raises:
        EvaluationError: as `evaluate_humaneval`.
    """
    problems = humaneval.load_problems(section.limit)
    tasks = _tasks(model, tokenizer, section, problems)
    with JudgePool(sandbox.model_copy(update={"num_workers": 1})) as pool:
        isolation = pool.isolation
    shortest = min(tasks, key=lambda task: len(task.prompt_ids))
    generate(model, [shortest.prompt_ids], eos_id=tokenizer.eos_id, pad_id=tokenizer.pad_id, max_new_tokens=1)
    lengths = [len(task.prompt_ids) for task in tasks]
    parameter = next(model.parameters())
    return (
        f"would complete {len(problems)} problems of HumanEval, {section.num_samples} times each, on"
        f" {parameter.device.type} in {str(parameter.dtype).removeprefix('torch.')}: prompts of {min(lengths)} to"
        f" {max(lengths)} tokens ({sum(task.left_out > 0 for task in tasks)} cut from the left), at most"
        f" {section.max_new_tokens} new ones; then judge them at level {isolation.describe()}"
    )


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of all weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _settings(
    model: nn.Module,
    tokenizer: Tokenizer,
    section: HumanEvalSection,
    sandbox: SandboxSection,
    seed: int,
    problems: list[Problem],
    profile: Profile,
    isolation: Isolation,
    checkpoint: str | None,
) -> dict[str, Any]:
    parameter = next(model.parameters())
    return {
        "benchmark": "humaneval",
        "problems": len(problems),
        "problems_sha256": humaneval.problems_hash(problems),
        "prompts": "aligned-1",
        "prompts_sha256": results.text_hash("".join(problem.prompt for problem in problems)),
        "checkpoint": checkpoint,
        "tokenizer": tokenizer.fingerprint().to_dict(),
        "seed": seed,
        **section.model_dump(),
        "postprocess": f"{profile.name}-{profile.version}",
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "device": parameter.device.type,
        "judge": "literal",
        "sandbox": isolation.level,
        "limits": limits_of(sandbox).to_dict(),
        "versions": {
            "codelm": codelm.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
    }


def _tasks(model: nn.Module, tokenizer: Tokenizer, section: HumanEvalSection, problems: list[Problem]) -> list[_Task]:
    limit = max_length(model)
    room = None if limit is None else limit - min(section.max_new_tokens, _LEAST_ROOM, limit // 2)
    tasks = []
    for problem in problems:
        ids, tail = _aligned(tokenizer, problem.prompt)
        left_out = 0 if room is None else max(0, len(ids) - room)
        tasks += [_Task(problem, sample, ids[left_out:], left_out, tail) for sample in range(section.num_samples)]
    return tasks


def _aligned(tokenizer: Tokenizer, prompt: str) -> tuple[list[int], str]:
    """A prompt's ids as they would be with an indented line behind it, and the whitespace that this leaves out.

    Many vocabularies have one token for a line's end and the next line's indentation. A prompt that ends with the bare
    line's end is then a text such a model has never seen, and it writes no body.
    """
    ids, continued = tokenizer.encode(prompt), tokenizer.encode(f"{prompt}    return")
    shared = next(
        (place for place, pair in enumerate(zip(ids, continued, strict=False)) if pair[0] != pair[1]), len(ids)
    )
    kept = tokenizer.decode(ids[:shared])
    if shared and prompt.startswith(kept) and not prompt[len(kept) :].strip():
        return ids[:shared], prompt[len(kept) :]
    return ids, ""


def _generate(
    model: nn.Module,
    tokenizer: Tokenizer,
    section: HumanEvalSection,
    profile: Profile,
    seed: int,
    tasks: list[_Task],
    folder: Path | None,
    progress: Progress | None,
) -> list[Completion]:
    """Generate what is not there yet; every finished sample is on disk at once."""
    stored = results.read_lines(folder / results.SAMPLES) if folder else []
    done = {(row["task_id"], row["sample"]): Completion(**row) for row in stored}
    missing = [task for task in tasks if task.key not in done]
    if progress:
        progress("generate", len(done), len(tasks))

    def stop(place: int, ids: list[int]) -> bool:
        if profile.finished is None or len(ids) % _STOP_EVERY:
            return False
        task = missing[place]
        text = task.completion_of(tokenizer.decode_behind(ids))
        return profile.finished(task.problem.prompt, text, task.problem.entry_point)

    def finish(place: int, ids: list[int], reason: str) -> None:
        task = missing[place]
        text = tokenizer.decode_behind(ids)
        cut = profile.cut(task.problem.prompt, task.completion_of(text), task.problem.entry_point, reason == "eos")
        completion = Completion(
            task.problem.task_id, task.sample, task.prompt_ids, task.left_out, ids, text, reason, cut
        )
        done[task.key] = completion
        if folder:
            results.append_line(folder / results.SAMPLES, asdict(completion))
        if progress:
            progress("generate", len(done), len(tasks))

    generate(
        model,
        [task.prompt_ids for task in missing],
        eos_id=tokenizer.eos_id,
        pad_id=tokenizer.pad_id,
        max_new_tokens=section.max_new_tokens,
        vocab_size=tokenizer.vocab_size,
        temperature=section.temperature,
        top_p=section.top_p,
        seeds=[sample_seed(seed, *task.key) for task in missing],
        batch_size=section.batch_size,
        stop=stop,
        progress=finish,
    )
    return [done[task.key] for task in tasks]


def _judge(
    pool: JudgePool,
    problems: list[Problem],
    completions: list[Completion],
    folder: Path | None,
    progress: Progress | None,
) -> list[Verdict]:
    """Judge what has no verdict yet; what the judge failed to judge is tried again."""
    by_id = {problem.task_id: problem for problem in problems}
    known: dict[tuple[str, int], Verdict] = {}
    for row in results.read_lines(folder / results.RESULTS) if folder else []:
        verdict = Verdict(id=row["task_id"], **row["verdict"])
        if verdict.kind != "unjudged":
            known[row["task_id"], row["sample"]] = verdict
    keys = [(completion.task_id, completion.sample) for completion in completions]
    missing = [completion for key, completion in zip(keys, completions, strict=True) if key not in known]
    total, count = len(completions), len(known)

    def judged(_: Verdict) -> None:
        nonlocal count
        count += 1
        if progress:
            progress("judge", count, total)

    jobs = [humaneval.job(by_id[completion.task_id], completion.completion) for completion in missing]
    for completion, verdict in zip(missing, pool.judge(jobs, judged), strict=True):
        known[completion.task_id, completion.sample] = verdict
    verdicts = [known[key] for key in keys]
    if folder and missing:
        rows = zip(keys, verdicts, strict=True)
        results.write_lines(
            folder / results.RESULTS,
            (
                {"task_id": task_id, "sample": sample, "passed": verdict.passed, "verdict": verdict.to_dict()}
                for (task_id, sample), verdict in rows
            ),
        )
    return verdicts


def _pass_at_k(
    verdicts: Sequence[Verdict], completions: Sequence[Completion], samples: int, settings: dict[str, Any]
) -> list[Score]:
    correct: dict[str, int] = defaultdict(int)
    for completion, verdict in zip(completions, verdicts, strict=True):
        correct[completion.task_id] += verdict.passed
    counts = [(samples, count) for count in correct.values()]
    return [score_pass_at_k(counts, k, settings) for k in KS if k <= samples]


def _gold(
    model: nn.Module,
    tokenizer: Tokenizer,
    problems: list[Problem],
    folder: Path | None,
    settings: dict[str, Any],
    progress: Progress | None,
) -> Score:
    known = {row["task_id"]: row for row in (results.read_lines(folder / results.GOLD) if folder else [])}
    missing = [problem for problem in problems if problem.task_id not in known]
    count = len(known)

    def scored(_: int, __: float) -> None:
        nonlocal count
        count += 1
        if progress:
            progress("gold", count, len(problems))

    pairs, sizes = [], []
    for problem in missing:
        ids, tail = _aligned(tokenizer, problem.prompt)
        solution = tail + problem.canonical_solution
        pairs.append((ids, tokenizer.encode(solution)))
        sizes.append(len(solution.encode()))
    all_bits = gold_bits(model, pairs, tokenizer.pad_id, scored)
    for problem, bits, size in zip(missing, all_bits, sizes, strict=True):
        known[problem.task_id] = {"task_id": problem.task_id, "bits": bits, "bytes": size}
    if folder and missing:
        results.write_lines(folder / results.GOLD, known.values())
    values = [row["bits"] / row["bytes"] for row in known.values() if row["bits"] is not None]
    if not values:
        raise EvaluationError("no reference solution fits the model's length: evaluate a model with a longer context")
    return score_mean("humaneval_gold_bpb", values, settings)
