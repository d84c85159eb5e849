"""Whole training runs on CPU: `train/main.py` against llm-foundry's trainer, and against a bare loop.

The same rows of tokens (the standard library's Python), the same tiny MPT with ALiBi and 32,768 embeddings, LionW,
clipping, fp32. Every contestant is a process of its own; they take turns. Prints, with the marks:

- tokens/s of the steps after the first few (at least 1.2 times llm-foundry's), peak memory (at most 0.6 times)
- seconds from the command to the first finished step: through the launcher (at most 0.6 times), as plain
  `python train/main.py` (at most 0.4 times llm-foundry's through the launcher, its only way)
- what Composer and codelm add to a bare torch step on the same model and batch (at most 3 %): in one process that takes
  both kinds of step in turn, for minutes differ by more; and the share of the time that training waits for data (1 %)

    python -m venv foundry && foundry/bin/pip install llm-foundry==0.22.0       (7 GB)
    python benchmarks/training.py --foundry foundry/bin/python

Without --foundry only our own part runs. One thread; on a busy machine --clock cpu counts the CPU time of a step.
"""

import argparse
import itertools
import json
import os
import resource
import runpy
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SEQ, VOCAB, WARM = 512, 32_768, 3
SHAPE = {"d_model": 256, "n_heads": 8, "n_layers": 4}
RATE = 1.0e-4
OPTIMIZER = {"lr": RATE, "betas": [0.9, 0.99], "weight_decay": 1.0e-5}


def main() -> None:
    args = parse()
    if args.worker:
        work(args.worker, Path(args.folder), args)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder, args)
        contestants = ["codelm", "codelm and bare in turn", "codelm, launcher"]
        if args.foundry:
            contestants.append("llm-foundry, launcher")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
        for _ in range(args.repeat):
            for name, runs in found.items():
                runs.append(run(name, folder, args))
                print(f"{name:24}{json.dumps(runs[-1])}", file=sys.stderr, flush=True)
        report({name: median_of(runs) for name, runs in found.items()})


def median_of(runs: list[dict[str, float]]) -> dict[str, float]:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--foundry", help="the Python of an environment with llm-foundry 0.22")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--worker", choices=["codelm", "in-turn", "foundry", "foundry-data"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser.parse_args()


def prepare(folder: Path, args: argparse.Namespace) -> None:
    """Data for both, made of the same rows, and the two configurations."""
    import sysconfig

    import numpy as np

    from codelm.config.data import DataConfig
    from codelm.data.prepare import prepare as prepare_data
    from codelm.data.reading.corpus import open_corpus
    from codelm.data.reading.remote import ShardCache
    from codelm.model.saving import write_tokenizer
    from codelm.tokenizer import load_tokenizer

    settings = {
        "run_name": "benchmark",
        "sources": {"python": {"path": sysconfig.get_path("stdlib"), "include": ["*.py", "asyncio/**", "email/**"]}},
        "split": {"validation": 0.02},
        "tokenizer": {"train": {"vocab_size": 4096, "sample_bytes": 2_000_000}},
        "max_seq_len": SEQ,
        "output_folder": str(folder / "data"),
        "num_workers": 1,
    }
    prepare_data(DataConfig.model_validate(settings))
    ours = {
        "run_name": "benchmark",
        "max_seq_len": SEQ,
        "tokenizer": {"path": str(folder / "data/tokenizer")},
        "model": {"name": "replit_code", **SHAPE, "vocab_size": VOCAB},
        "train_data": {"path": str(folder / "data")},
        "optimizer": {"name": "lionw", **OPTIMIZER},
        "max_duration": f"{args.steps}ba",
        "global_train_batch_size": args.batch,
        "device_train_microbatch_size": args.batch,
        "device": "cpu",
        "save_folder": str(folder / "checkpoints"),
        "save_interval": "10000ba",
    }
    # JSON is YAML.
    (folder / "ours.yaml").write_text(json.dumps(ours))
    if not args.foundry:
        return
    reader = open_corpus(str(folder / "data"), lambda: ShardCache(folder / "cache")).reader("train", "python")
    np.save(folder / "rows.npy", reader.read(range(min(len(reader), args.steps * args.batch))).tokens)
    (folder / "tokenizer").mkdir()
    write_tokenizer(load_tokenizer(folder / "data/tokenizer"), folder / "tokenizer", {"max_seq_len": SEQ})
    loader = {
        "name": "text",
        "dataset": {
            "local": str(folder / "mds"),
            "split": "train",
            "shuffle": True,
            "max_seq_len": SEQ,
            "token_encoding_type": "uint16",
        },
        "drop_last": True,
        "num_workers": 0,
        "prefetch_factor": None,
        "persistent_workers": False,
        "pin_memory": False,
    }
    theirs = {
        "variables": {},
        "max_seq_len": SEQ,
        "run_name": "benchmark",
        "model": {
            "name": "mpt_causal_lm",
            "init_device": "cpu",
            **SHAPE,
            "expansion_ratio": 4,
            "max_seq_len": SEQ,
            "vocab_size": VOCAB,
            "no_bias": True,
            "loss_fn": "torch_crossentropy",
            "attn_config": {"attn_impl": "torch", "alibi": True},
        },
        "tokenizer": {"name": str(folder / "tokenizer"), "kwargs": {"model_max_length": SEQ}},
        "train_loader": loader,
        "optimizer": {"name": "decoupled_lionw", **OPTIMIZER},
        "scheduler": {"name": "constant_with_warmup", "t_warmup": "0ba"},
        "algorithms": {"gradient_clipping": {"clipping_type": "norm", "clipping_threshold": 1.0}},
        "max_duration": f"{args.steps}ba",
        "eval_interval": 0,
        "global_train_batch_size": args.batch,
        "device_train_microbatch_size": args.batch,
        "precision": "fp32",
        "progress_bar": False,
        "log_to_console": False,
        "seed": 17,
    }
    (folder / "theirs.yaml").write_text(json.dumps(theirs))
    subprocess.run([args.foundry, __file__, "--worker", "foundry-data", "--folder", str(folder)], check=True)


def run(name: str, folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """One run; what it wrote of itself, and the seconds from the command to its first step."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    worker = {
        "codelm": "codelm",
        "codelm and bare in turn": "in-turn",
        "codelm, launcher": "codelm",
        "llm-foundry, launcher": "foundry",
    }[name]
    python = args.foundry if worker == "foundry" else sys.executable
    launcher = ["-m", "composer.cli.launcher", "-n", "1"] if "launcher" in name else []
    command = [python, *launcher, __file__, "--worker", worker, "--folder", str(folder), "--clock", args.clock]
    command += ["--steps", str(args.steps), "--batch", str(args.batch)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = "" if worker == "foundry" else str(ROOT)
    (folder / "out.json").unlink(missing_ok=True)
    began = time.time()
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if not (folder / "out.json").exists():
        sys.exit(f"{name} ended with {done.returncode}:\n{done.stderr.decode()[-3000:]}")
    found = json.loads((folder / "out.json").read_text())
    found["to_first_step"] = found.pop("first_step_at") - began
    return found


def work(worker: str, folder: Path, args: argparse.Namespace) -> None:
    """One contestant, in its own process; writes out.json."""
    if worker == "foundry-data":
        foundry_data(folder)
        return
    clock = time.perf_counter if args.clock == "wall" else time.process_time
    ends: list[float] = []
    bare: list[float] = []
    first: list[float] = []

    def step_ended(state: Any) -> None:
        if not first:
            first.append(time.time())
        ends.append(clock())
        if worker == "in-turn":
            bare_step(state)
            bare.append(clock() - ends[-1])

    extra: dict[str, float] = {}
    {"codelm": codelm_run, "in-turn": codelm_run, "foundry": foundry_run}[worker](folder, step_ended)
    if worker != "foundry":
        rows = [json.loads(line) for line in (folder / "checkpoints/metrics.jsonl").read_text().splitlines()]
        shares = [row[DATA_WAIT] for row in rows if DATA_WAIT in row]
        extra["data_wait_share"] = statistics.median(shares) if shares else float("nan")
    steps = [after - before for before, after in itertools.pairwise(ends)][WARM:]
    if bare:
        steps = [step - other for step, other in zip(steps, bare[WARM:], strict=False)]
        extra["overhead"] = statistics.median(
            step / other - 1 for step, other in zip(steps, bare[WARM + 1 :], strict=True)
        )
    found = {
        "tokens_per_s": args.batch * SEQ / statistics.median(steps),
        "step_ms": 1e3 * statistics.median(steps),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        "first_step_at": first[0],
        **extra,
    }
    (folder / "out.json").write_text(json.dumps(found))


DATA_WAIT = "time/data_wait_share"


def tell_of_steps(step_ended: Callable[[Any], None]) -> None:
    """Give every Trainer that is built from now on a callback that tells of the end of each batch."""
    from composer import Callback, Trainer

    class Ends(Callback):
        def batch_end(self, state: Any, logger: Any) -> None:
            step_ended(state)

    plain = Trainer.__init__

    def told(self: Trainer, *args: Any, callbacks: Any = None, **kwargs: Any) -> None:
        given = callbacks if isinstance(callbacks, list) else [] if callbacks is None else [callbacks]
        plain(self, *args, callbacks=[*given, Ends()], **kwargs)

    Trainer.__init__ = told  # pyright: ignore[reportAttributeAccessIssue]


def codelm_run(folder: Path, step_ended: Callable[[Any], None]) -> None:
    import codelm.train  # noqa: F401  before Composer, of which it keeps parts out, as in a run that nobody measures
    from codelm.startup import many_imports

    with many_imports():
        tell_of_steps(step_ended)
    sys.argv = ["train/main.py", str(folder / "ours.yaml")]
    runpy.run_path(str(ROOT / "train/main.py"), run_name="__main__")


def foundry_run(folder: Path, step_ended: Callable[[Any], None]) -> None:
    tell_of_steps(step_ended)
    from llmfoundry.command_utils import train_from_yaml  # pyright: ignore[reportMissingImports]

    train_from_yaml(str(folder / "theirs.yaml"))


def bare_step(state: Any) -> None:
    """Forward, backward, clip, step, and no more, by hand on the trainer's own model, batch and optimizer."""
    import torch

    model, optimizer = state.model, state.optimizers[0]
    optimizer.zero_grad()
    model.loss(model(state.batch), state.batch).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def foundry_data(folder: Path) -> None:
    import numpy as np
    from streaming import MDSWriter  # pyright: ignore[reportMissingImports]

    with MDSWriter(out=str(folder / "mds/train"), columns={"tokens": "bytes"}) as writer:
        for row in np.load(folder / "rows.npy"):
            writer.write({"tokens": row.astype(np.uint16).tobytes()})


def report(found: dict[str, dict[str, float]]) -> None:
    """A table, and the ratios with their marks."""
    columns = ("tokens_per_s", "step_ms", "peak_mb", "to_first_step")
    print(f"{'':24}" + "".join(f"{name:>15}" for name in columns))
    for name, values in found.items():
        print(f"{name:24}" + "".join(f"{values[column]:15.1f}" for column in columns))
    ours = found["codelm"]
    overhead = found["codelm and bare in turn"]["overhead"]
    print(f"a step of codelm takes {overhead:+.1%} of the bare one after it (mark: at most +3 %)")
    print(f"waiting for data: {ours['data_wait_share']:.2%} of the time (mark: at most 1 %)")
    if "llm-foundry, launcher" not in found:
        return
    launched, theirs = found["codelm, launcher"], found["llm-foundry, launcher"]
    print("codelm / llm-foundry:")
    for label, ratio, mark in (
        ("tokens/s", ours["tokens_per_s"] / theirs["tokens_per_s"], "at least 1.2"),
        ("peak memory", ours["peak_mb"] / theirs["peak_mb"], "at most 0.6"),
        ("to the first step, launcher", launched["to_first_step"] / theirs["to_first_step"], "at most 0.6"),
        ("to the first step, plain python", ours["to_first_step"] / theirs["to_first_step"], "at most 0.4"),
    ):
        print(f"  {label:34}{ratio:6.2f}  (mark: {mark})")


if __name__ == "__main__":
    main()
