"""Generation on CPU: our loop and model against transformers' `generate` and its MptForCausalLM, same weights, fp32.

Three workloads, greedy where tokens are compared:

- `fixed`: `--batch` prompts of 16 tokens, half of them shorter and so left-padded, exactly `--new` tokens each.
- `mixed`: HumanEval-like. `--prompts` prompts of 40-300 tokens; each is to be stopped after a number of tokens drawn
  from a seed (log-normal, median 60, most below `--new`), which stands for a stop rule that reads the text. Both sides
  get it as a stop rule, ours as `stop`, transformers' as a per-row StoppingCriteria; a batch of transformers' goes on
  until its last row has stopped, in the order of the prompts.
- `samples`: 20 samples each of `--distinct` such prompts at temperature 0.2 and top_p 0.95, stopped likewise;
  transformers' with `num_return_sequences=20`.

The contestants take turns in one process, `--repeat` times; medians, and the ratios to `mpt`. `mpt-flushing` is
transformers with denormal numbers counted as zero, as ours does for the time of a generation. One thread; on a busy
machine with `--clock cpu`.

    python benchmarks/generation.py fixed --size 27m --repeat 5
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import MptConfig, MptForCausalLM, StoppingCriteria, StoppingCriteriaList
from transformers.utils import logging as transformers_logging

from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
from codelm.model.generation import generate

SIZES: dict[str, dict[str, Any]] = {
    "27m": {"d_model": 384, "n_heads": 6, "n_layers": 8},
    "39m": {"d_model": 512, "n_heads": 8, "n_layers": 7},
    "60m": {"d_model": 640, "n_heads": 8, "n_layers": 8},
}
VOCAB = 32768
PAD = 2
WORKLOADS = ("fixed", "mixed", "samples")
SAMPLES = 20

Prompts = list[list[int]]
Run = Callable[[], list[list[int]]]


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    transformers_logging.set_verbosity_error()
    ours, mpt = models(SIZES[args.size])
    parameters = sum(p.numel() for p in ours.parameters())
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    print(f"{parameters / 1e6:.1f} M parameters, vocabulary {VOCAB}, threads {args.threads}, repeat {args.repeat}")
    print(f"torch {torch.__version__}; prompts {args.prompts}, batch {args.batch}, new {args.new}, clock {args.clock}")
    for workload in args.workloads:
        contestants = WORKLOAD[workload](ours, mpt, args)
        compare(workload, contestants, args.repeat, clock)


def models(shape: dict[str, Any]) -> tuple[ReplitCodeForCausalLM, MptForCausalLM]:
    """The same random weights in both, scaled so that greedy does not repeat one token."""
    torch.manual_seed(0)
    ours = ReplitCodeForCausalLM(ReplitCodeConfig(**shape, vocab_size=VOCAB, max_seq_len=1024))
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.mul_(1.5)
    mpt = MptForCausalLM(MptConfig(**shape, vocab_size=VOCAB, max_seq_len=1024))
    mpt.load_state_dict(ours.state_dict())
    return ours.eval(), mpt.eval()


def compare(workload: str, contestants: dict[str, Run], repeat: int, clock: Callable[[], float]) -> None:
    """Time the contestants in turns, and print tokens per second and whether the tokens are the same."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    tokens: dict[str, list[list[int]]] = {}
    for _ in range(repeat):
        for name, run in contestants.items():
            torch.set_flush_denormal(name.endswith("flushing"))
            begin = clock()
            tokens[name] = run()
            seconds[name].append(clock() - begin)
            print(f"{workload} {name} {seconds[name][-1]:.2f} s", file=sys.stderr, flush=True)
    torch.set_flush_denormal(False)
    for name in contestants:
        median = statistics.median(seconds[name])
        count = sum(map(len, tokens[name]))
        # Ratios within a turn: what disturbs the machine disturbs neighbours in time alike.
        ratio = statistics.median(a / b for a, b in zip(seconds["mpt"], seconds[name], strict=True))
        same = sum(a == b for a, b in zip(tokens[name], tokens["mpt"], strict=True)) / len(tokens[name])
        print(
            f"{workload:8} {name:16} {median:8.2f} s {count / median:8.0f} tok/s {ratio:6.2f} x mpt"
            f"   {count} tokens, {same:.0%} of rows as mpt's"
        )


def fixed(ours: ReplitCodeForCausalLM, mpt: MptForCausalLM, args: argparse.Namespace) -> dict[str, Run]:
    """All rows full length: what a step costs."""
    seeded = torch.Generator().manual_seed(1)
    lengths = [16 if place % 2 else 8 + place % 7 for place in range(args.batch)]
    prompts = [torch.randint(3, VOCAB, (length,), generator=seeded).tolist() for length in lengths]

    def theirs() -> list[list[int]]:
        return transformers_generate(mpt, prompts, args.batch, args.new, min_new_tokens=args.new)

    def own() -> list[list[int]]:
        return generate(ours, prompts, eos_id=-1, max_new_tokens=args.new, batch_size=args.batch)

    return {"mpt": theirs, "mpt-flushing": theirs, "ours": own, "our loop on mpt": own_loop(mpt, prompts, args)}


def own_loop(mpt: MptForCausalLM, prompts: Prompts, args: argparse.Namespace) -> Run:
    """Tells what the loop gains from what the model does."""
    return lambda: generate(mpt, prompts, eos_id=-1, max_new_tokens=args.new, batch_size=args.batch)


def mixed(ours: ReplitCodeForCausalLM, mpt: MptForCausalLM, args: argparse.Namespace) -> dict[str, Run]:
    """Rows end early, at different times."""
    prompts, ends = humaneval_like(args.prompts, args.new)

    def theirs() -> list[list[int]]:
        return transformers_generate(mpt, prompts, args.batch, args.new, ends)

    def own() -> list[list[int]]:
        return generate(
            ours,
            prompts,
            eos_id=-1,
            max_new_tokens=args.new,
            batch_size=args.batch,
            stop=lambda place, ids: len(ids) >= ends[place],
        )

    return {"mpt": theirs, "mpt-flushing": theirs, "ours": own}


def samples(ours: ReplitCodeForCausalLM, mpt: MptForCausalLM, args: argparse.Namespace) -> dict[str, Run]:
    """Several samples of each prompt."""
    prompts, _ = humaneval_like(args.distinct, args.new)
    _, ends = humaneval_like(args.distinct * SAMPLES, args.new)
    sampled = {"do_sample": True, "temperature": 0.2, "top_p": 0.95, "top_k": 0}

    def theirs() -> list[list[int]]:
        torch.manual_seed(0)
        return transformers_generate(mpt, prompts, 1, args.new, ends, num_return_sequences=SAMPLES, **sampled)

    def own() -> list[list[int]]:
        return generate(
            ours,
            prompts,
            eos_id=-1,
            max_new_tokens=args.new,
            batch_size=SAMPLES,
            num_samples=SAMPLES,
            temperature=0.2,
            top_p=0.95,
            stop=lambda place, ids: len(ids) >= ends[place],
        )

    return {"mpt": theirs, "mpt-flushing": theirs, "ours": own}


WORKLOAD = {"fixed": fixed, "mixed": mixed, "samples": samples}


def humaneval_like(count: int, new: int) -> tuple[Prompts, list[int]]:
    """Prompts, and after how many tokens each is to stop."""
    seeded = torch.Generator().manual_seed(2)
    lengths = torch.randint(40, 301, (count,), generator=seeded).tolist()
    prompts = [torch.randint(3, VOCAB, (length,), generator=seeded).tolist() for length in lengths]
    ends = (60 * (0.8 * torch.randn(count, generator=seeded)).exp()).int().clamp(5, new).tolist()
    return prompts, ends


class _Ends(StoppingCriteria):
    """Stops each row after its own number of new tokens."""

    def __init__(self, start: int, ends: list[int]) -> None:
        self.start, self.ends = start, torch.tensor(ends)

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs: object) -> Tensor:  # pyright: ignore
        return input_ids.shape[1] - self.start >= self.ends


def transformers_generate(
    model: MptForCausalLM,
    prompts: Prompts,
    batch_size: int,
    new: int,
    ends: list[int] | None = None,
    num_return_sequences: int = 1,
    **options: object,
) -> list[list[int]]:
    """Left-padded batches in the order of the prompts."""
    found: list[list[int]] = []
    for first in range(0, len(prompts), batch_size):
        batch = prompts[first : first + batch_size]
        longest = max(map(len, batch))
        ids = torch.tensor([[PAD] * (longest - len(prompt)) + prompt for prompt in batch])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch])
        places = range(first * num_return_sequences, (first + len(batch)) * num_return_sequences)
        limits = [ends[place] for place in places] if ends else [new] * len(places)
        output = model.generate(  # pyright: ignore
            ids,
            attention_mask=mask,
            max_new_tokens=new,
            num_return_sequences=num_return_sequences,
            stopping_criteria=StoppingCriteriaList([_Ends(longest, limits)]),
            # No token is EOS: random weights would end rows here and there.
            eos_token_id=None,
            pad_token_id=PAD,
            use_cache=True,  # MptConfig's own default is False
            **{"do_sample": False, **options},  # pyright: ignore[reportArgumentType]
        )
        rows = output[:, longest:].tolist()  # pyright: ignore
        found += [row[:limit] for row, limit in zip(rows, limits, strict=True)]
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", choices=[*WORKLOADS, []], help="which (all three)")
    parser.add_argument("--size", choices=SIZES, default="27m")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--new", type=int, default=256)
    parser.add_argument("--prompts", type=int, default=16, help="of `mixed`")
    parser.add_argument("--distinct", type=int, default=1, help="prompts of `samples`")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: for one thread, others aside")
    args = parser.parse_args()
    args.workloads = args.workloads or list(WORKLOADS)
    return args


if __name__ == "__main__":
    main()
