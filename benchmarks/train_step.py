"""Training speed and memory on CPU: our model against transformers' MptForCausalLM, in the same bare loop.

Same weights, same batches, same optimizer (LionW), fp32. Each measurement is a process of its own; the models take
turns, so that a busy machine disturbs all alike. `-flushing` rounds denormal numbers to zero, which the far keys of
ALiBi produce in great number, and which processors handle slowly. The tokens are packed documents: ours masks them from
each other, native MPT cannot and is left unmasked. Prints tokens/s, peak memory and the ratios, with the marks they are
to reach: at least 1.2 times the speed, at most 0.8 times the memory, at 20 to 60 M parameters and 1,024 tokens a row.

    python benchmarks/train_step.py                       (27 M parameters; on a busy machine with --clock cpu)
    python benchmarks/train_step.py --size 58m --documents 0
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

SIZES = {
    "2m": {"d_model": 128, "n_heads": 4, "n_layers": 4},
    "5m": {"d_model": 256, "n_heads": 4, "n_layers": 4},
    "quickstart": {"d_model": 256, "n_heads": 4, "n_layers": 4},
    "11m": {"d_model": 384, "n_heads": 6, "n_layers": 4},
    "27m": {"d_model": 384, "n_heads": 6, "n_layers": 8},
    "58m": {"d_model": 512, "n_heads": 8, "n_layers": 13},
}
LEAST_SPEED, MOST_MEMORY = 1.2, 0.8
WORKERS = ("mpt", "mpt-flushing", "ours", "ours-flushing")


def main() -> None:
    args = parse()
    if args.worker:
        print(json.dumps(measure(args)))
        return
    runs: dict[str, list[dict[str, float]]] = {worker: [] for worker in WORKERS}
    for _ in range(args.repeat):
        for worker, found in runs.items():
            found.append(run(worker))
            print(f"{worker:16} {json.dumps(found[-1])}", file=sys.stderr, flush=True)
    median = {
        worker: {name: statistics.median(r[name] for r in found) for name in found[0]} for worker, found in runs.items()
    }
    print(f"{median['ours']['parameters'] / 1e6:.1f} M parameters, {describe(args)}")
    columns = ("tokens_per_s", "peak_mb", "above_start_mb", "first_loss")
    print(f"{'':16}" + "".join(f"{name:>16}" for name in columns))
    for worker, values in median.items():
        print(f"{worker:16}" + "".join(f"{values[name]:16.{4 if name == 'first_loss' else 0}f}" for name in columns))
    for worker in ("ours", "ours-flushing"):
        ratios = [median[worker][name] / median["mpt"][name] for name in columns[:3]]
        reached = ratios[0] >= LEAST_SPEED and ratios[1] <= MOST_MEMORY
        marks = f"marks {LEAST_SPEED} and {MOST_MEMORY}: {'reached' if reached else 'missed'}"
        print(f"{worker + ' / mpt':24}" + "".join(f"{ratio:8.2f}{'':8}" for ratio in ratios) + marks)


def describe(args: argparse.Namespace) -> str:
    """The options that the figures depend on."""
    names = ("vocab", "seq", "batch", "documents", "threads", "clock", "steps", "repeat")
    return ", ".join(f"{name} {getattr(args, name)}" for name in names)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="27m", help="named for --vocab 32768; 11m and less: 8192")
    parser.add_argument("--vocab", type=int, default=32768)
    parser.add_argument("--seq", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6, help="timed steps, after two that are not")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--documents", type=int, default=2, help="documents a row, cut at random; 0: none are masked")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu: for one thread, others aside")
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(worker: str) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, *sys.argv, "--worker", worker]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Train for a few steps and report."""
    import torch
    from lion_pytorch import Lion
    from transformers import MptConfig, MptForCausalLM

    from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM

    torch.set_flush_denormal(args.worker.endswith("flushing"))
    torch.set_num_threads(args.threads)
    shape = {**SIZES[args.size], "vocab_size": args.vocab, "max_seq_len": args.seq}
    torch.manual_seed(0)
    model = ReplitCodeForCausalLM(ReplitCodeConfig(**shape))
    if args.worker.startswith("mpt"):
        weights = model.state_dict()
        model = MptForCausalLM(MptConfig(**shape, use_cache=False))
        model.load_state_dict(weights)
        del weights
    model.train()
    optimizer = Lion(model.parameters(), lr=1e-4, weight_decay=0.1, decoupled_weight_decay=True)
    seeded = torch.Generator().manual_seed(1)
    batches = torch.randint(0, args.vocab, (args.steps + 2, args.batch, args.seq), generator=seeded)
    ends = torch.randint(1, args.seq, (args.steps + 2, args.batch, max(0, args.documents - 1), 1), generator=seeded)
    sequence_ids = (torch.arange(args.seq) >= ends).sum(2)
    masked = args.documents and args.worker.startswith("ours")
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    start_mb = peak_mb()
    times, first_loss = [], float("nan")
    for batch, sequence_id in zip(batches, sequence_ids, strict=True):
        extra = {"sequence_id": sequence_id} if masked else {}
        begin = clock()
        loss = model(input_ids=batch, labels=batch, **extra).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        first_loss = float(loss.detach()) if not times else first_loss
        times.append(clock() - begin)
    return {
        "tokens_per_s": args.batch * args.seq / statistics.median(times[2:]),
        "peak_mb": peak_mb(),
        "above_start_mb": peak_mb() - start_mb,
        "parameters": sum(p.numel() for p in model.parameters()),
        "first_loss": first_loss,
    }


def peak_mb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
