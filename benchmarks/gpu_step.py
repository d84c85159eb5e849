"""Training speed on one GPU: tokens/s, MFU and peak memory for each attn_impl, with and without compiled blocks.

A step is what a run on one GPU does: fp32 weights, bf16 autocast, the fused loss, gradient clipping and LionW. Each
measurement is a process of its own, that climbs down a ladder of microbatches until one fits (`8ac`: 8 samples, with
activation checkpointing); then come warm-up steps, and the median of the timed ones.

MFU is llm-foundry's: 6·N + 12·n_layers·d_model·seq operations a token (17.62 G for 3b at 2,048), causality not counted,
over the GPU's dense bf16 peak. The marks for 3b at 2,048 tokens on one H200: 28,000 tokens/s to pass, 33,000 to aim at.

    python benchmarks/gpu_step.py
    python benchmarks/gpu_step.py --attn triton --compile block --loss chunked,liger,torch --documents 4
    python benchmarks/gpu_step.py --size tiny --seq 64 --steps 2 --device cpu      (does the script run?)
"""

import argparse
import itertools
import json
import re
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from codelm.config.sizes import SIZES

TINY = {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 512}
PASS_MARK, AIM = 28_000, 33_000
# Dense bf16 peaks by a part of the device's name, in TFLOP/s: the manufacturers' figures.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "RTX 4090": 165.0}
RUNG = re.compile(r"(?P<samples>\d+)(?P<checkpointing>ac)?")


def main() -> None:
    args = parse()
    if args.worker:
        print(json.dumps(measure(args)))
        return
    print(f"{args.size}, seq {args.seq}, {args.documents or 'no'} packed documents a row, median of {args.steps} steps")
    columns = ("attn", "compile", "loss", "batch", "tokens/s", "MFU", "peak GB", "first loss")
    print(" ".join(f"{name:>10}" for name in columns))
    for attn, compiling, loss in itertools.product(args.attn, args.compile, args.loss):
        print(row((attn, compiling, loss), run(args, attn, compiling, loss), args), flush=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    several: dict[str, Any] = {"type": lambda text: text.split(",")}
    parser.add_argument("--size", choices=[*SIZES, "tiny"], default="3b")
    parser.add_argument("--seq", type=int, default=2048)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--attn", default=["torch", "triton", "flash"], **several)
    parser.add_argument("--compile", default=["none", "block"], **several)
    parser.add_argument("--loss", default=["default"], help="default, or some of chunked,liger,torch", **several)
    parser.add_argument("--ladder", default=["16", "8", "4", "16ac", "8ac", "4ac", "1ac"], **several)
    parser.add_argument("--documents", type=int, default=0, help="packed documents a row; 0: nothing is masked")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--peak-tflops", type=float, help="the device's dense bf16 peak, where it is not known here")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(args: argparse.Namespace, attn: str, compiling: str, loss: str) -> dict[str, Any]:
    """The first rung that fits, each tried in a process of its own; or what went wrong."""
    found: dict[str, Any] = {"error": "the ladder is empty"}
    for rung in args.ladder:
        own = ["--worker", "--attn", attn, "--compile", compiling, "--loss", loss, "--ladder", rung]
        result = subprocess.run([sys.executable, *sys.argv, *own], capture_output=True, text=True)
        lines = result.stdout.splitlines()
        if result.returncode or not lines:
            return {"error": next(reversed(result.stderr.strip().splitlines()), f"exit code {result.returncode}")}
        found = json.loads(lines[-1])
        if found.get("error") != "out of memory":
            break
    return found


def row(what: tuple[str, str, str], found: dict[str, Any], args: argparse.Namespace) -> str:
    """A line of the table."""
    head = " ".join(f"{name:>10}" for name in what)
    if "error" in found:
        return f"{head} {found['error']}"
    peak = args.peak_tflops or next((tera for name, tera in PEAKS.items() if name in found["device"]), None)
    speed = found["tokens_per_s"]
    mfu = "?" if peak is None else f"{speed * found['flops_per_token'] / (peak * 1e12):.1%}"
    line = (
        f"{head} {found['rung']:>10} {speed:>10,.0f} {mfu:>10} {found['peak_gb']:>10.1f} {found['first_loss']:>10.4f}"
    )
    if (args.size, args.seq, args.device) != ("3b", 2048, "cuda"):
        return line
    return f"{line}  {'reaches the aim' if speed >= AIM else 'passes' if speed >= PASS_MARK else 'below the mark'}"


def flops_per_token(parameters: int, n_layers: int, d_model: int, seq: int) -> int:
    """llm-foundry's count of a training step: six for each parameter, and attention's two products, not halved."""
    return 6 * parameters + 12 * n_layers * d_model * seq


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One combination at one rung."""
    import torch

    from codelm.errors import CodelmError

    if args.device == "cuda" and not torch.cuda.is_available():
        return {"error": "torch sees no CUDA device here"}
    try:
        return trained(args)
    except torch.OutOfMemoryError:
        return {"error": "out of memory"}
    except CodelmError as error:
        return {"error": str(error)}


def trained(args: argparse.Namespace) -> dict[str, Any]:
    """Train for a few steps and report."""
    import torch

    from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM
    from codelm.model.loss import choose
    from codelm.train.compiled import compile_blocks
    from codelm.train.composer_model import transformer_blocks
    from codelm.train.optim.lionw import LionW

    rung = RUNG.fullmatch(args.ladder[0])
    assert rung is not None, "a rung is a number of samples, with `ac` for activation checkpointing"
    samples, gpu = int(rung["samples"]), args.device == "cuda"
    choose(None if args.loss[0] == "default" else args.loss[0])
    shape: dict[str, Any] = {**(TINY if args.size == "tiny" else SIZES[args.size])}
    config = ReplitCodeConfig(**shape, max_seq_len=args.seq, attn_config={"attn_impl": args.attn[0]})
    torch.manual_seed(0)
    with torch.device(args.device):
        model = ReplitCodeForCausalLM(config).train()
    if rung["checkpointing"]:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if args.compile[0] == "block":
        compile_blocks(transformer_blocks(model), "gpu" if gpu else "cpu")
    optimizer = LionW(model.parameters(), lr=1e-4, weight_decay=1e-5)
    documents = {}
    if args.documents:
        ends = torch.arange(args.seq, device=args.device) * args.documents // args.seq
        documents["sequence_id"] = ends.expand(samples, -1)

    def step() -> torch.Tensor:
        ids = torch.randint(0, config.vocab_size, (samples, args.seq), device=args.device)
        with torch.autocast(args.device, dtype=torch.bfloat16, enabled=gpu):
            loss = model(input_ids=ids, labels=ids, use_cache=False, **documents).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    first_loss = float(step())
    for _ in range(args.warmup - 1):
        step()
    times = []
    for _ in range(args.steps):
        begin = time.perf_counter()
        step()
        if gpu:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    in_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "rung": args.ladder[0],
        "tokens_per_s": samples * args.seq / statistics.median(times),
        "flops_per_token": flops_per_token(parameters, config.n_layers, config.d_model, args.seq),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if gpu else in_kb * 1024 / 1e9,
        "first_loss": first_loss,
    }


if __name__ == "__main__":
    main()
