"""Milliseconds of an optimizer step: LionW and AdamW as the trainer builds them, against lion-pytorch's and torch's.

All optimizers hold tensors of the same shapes, those of a transformer of the given size, and take turns step by step
in one process; the fastest step of each counts, in CPU time of the process (on a GPU: in time, synchronised).

    OMP_NUM_THREADS=1 python benchmarks/optimizer.py
    python benchmarks/optimizer.py --device cuda --width 2560 --layers 16
"""

import argparse
import json
import math
import time
from collections.abc import Callable

import torch
from lion_pytorch import Lion
from lion_pytorch.foreach import Lion as ForeachLion

from codelm.config.training.optim import AdamWSection
from codelm.train.optim.build import build_optimizer
from codelm.train.optim.lionw import LionW

LR, DECAY, BETAS = 1e-4, 1e-5, (0.9, 0.99)
Parameters = list[torch.nn.Parameter]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    for line in measure(args.device, args.width, args.layers, args.vocab, args.steps):
        print(json.dumps(line))


def measure(device: str, width: int, layers: int, vocab: int, steps: int) -> list[dict[str, object]]:
    """A line for each optimizer."""
    torch.manual_seed(0)
    makers: dict[str, Callable[[Parameters], torch.optim.Optimizer]] = {
        "codelm LionW": lambda of: LionW(of, LR, BETAS, DECAY),
        "lion-pytorch": lambda of: Lion(of, LR, BETAS, DECAY, decoupled_weight_decay=True),
        "lion-pytorch foreach": lambda of: ForeachLion(of, LR, BETAS, DECAY, decoupled_weight_decay=True),
        "codelm AdamW": _adamw,
        "torch AdamW": lambda of: torch.optim.AdamW(of, LR, weight_decay=DECAY),
    }
    shapes = shapes_of(width, layers, vocab)
    steppers = {name: make(parameters(shapes, device)).step for name, make in makers.items()}
    best = dict.fromkeys(steppers, float("inf"))
    for turn in range(steps + 1):
        for name, step in steppers.items():
            seconds = timed(step, device)
            # The first step makes the state.
            best[name] = min(best[name], seconds) if turn else float("inf")
    return [
        {
            "optimizer": name,
            "device": device,
            "threads": torch.get_num_threads(),
            "parameters": sum(math.prod(shape) for shape in shapes),
            "ms": round(1e3 * seconds, 2),
            "lion-pytorch ÷ this": round(best["lion-pytorch"] / seconds, 2),
            "foreach ÷ this": round(best["lion-pytorch foreach"] / seconds, 2),
            "torch AdamW ÷ this": round(best["torch AdamW"] / seconds, 2),
        }
        for name, seconds in best.items()
    ]


def _adamw(of: Parameters) -> torch.optim.Optimizer:
    model = torch.nn.Module()
    model.p = torch.nn.ParameterList(of)
    return build_optimizer(AdamWSection(name="adamw", lr=LR, weight_decay=DECAY), model)


def shapes_of(width: int, layers: int, vocab: int) -> list[tuple[int, ...]]:
    """The parameters of a transformer with tied embeddings, norms without biases."""
    block = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width), (width,), (width,)]
    return [(vocab, width), *block * layers, (width,)]


def parameters(shapes: list[tuple[int, ...]], device: str) -> Parameters:
    """Random ones with random gradients."""
    found = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for parameter in found:
        parameter.grad = torch.randn_like(parameter)
    return found


def timed(step: Callable[[], object], device: str) -> float:
    """Seconds of a step."""
    if device == "cpu":
        began = time.process_time()
        step()
        return time.process_time() - began
    torch.cuda.synchronize()
    began = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
