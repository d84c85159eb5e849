"""Samples a second: our reader and mosaicml-streaming's on the same shards, and what a CPU training step consumes.

Both read shuffled batches of a mixture of four streams in the main process (no workers): ours ends with input_ids,
labels and sequence_id as int64, theirs with the stacked token ids that its dataset gives. They take turns in processes
of their own; the fastest of `--repeat` counts, in CPU time of the process. The training step is forward and backward of
the quickstart's model. Memory is that of our process, its own (RssAnon) and that of mapped files (RssFile), after the
first and the last batches of the epoch.

    python benchmarks/reading.py --streaming-python /path/to/python-with-mosaicml-streaming
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from codelm.data.reading.mixture import build_schedule
from codelm.data.reading.order import Order, Passes, build_passes
from codelm.data.reading.shard_reader import ShardReader
from codelm.data.reading.stream import Collator, MixtureDataset, StreamIdentity, train_loader
from codelm.data.shards import ShardWriter
from codelm.model import ReplitCodeConfig, ReplitCodeForCausalLM

SHARES = {"c": 0.1, "java": 0.2, "markdown": 0.3, "python": 0.4}
EOS, VOCAB = 1, 8192
BATCH = 64

THEIRS = """
import json, os, sys, tempfile, time
import torch
from torch.utils.data import DataLoader
os.environ["TMPDIR"] = tempfile.mkdtemp()
from streaming import Stream, StreamingDataset
torch.set_num_threads(1)
folder, shares, batch = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
streams = [Stream(local=f"{folder}/train/{name}", proportion=share) for name, share in shares.items()]
dataset = StreamingDataset(streams=streams, shuffle=True, batch_size=batch, num_canonical_nodes=1, shuffle_seed=17)
loader = DataLoader(dataset, batch_size=batch, num_workers=0)
best = float("inf")
for _ in range(2):
    iterator = iter(loader)
    next(iterator)
    started, seen = time.process_time(), 0
    for found in iterator:
        seen += len(found["tokens"])
    best = min(best, (time.process_time() - started) / seen)
print(json.dumps({"seconds_a_sample": best}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=16_384)
    parser.add_argument("--max-seq-len", type=int, default=2048)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--streaming-python", help="a Python that has mosaicml-streaming; without it ours alone is read"
    )
    parser.add_argument("--ours", metavar="FOLDER", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ours:
        print(json.dumps(read_ours(Path(args.ours))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_shards(folder, args.samples, args.max_seq_len)
        ours, theirs = float("inf"), float("inf")
        memory: dict[str, list[int]] = {}
        for _ in range(args.repeat):
            found = run([sys.executable, __file__, "--ours", scratch])
            ours, memory = min(ours, found["seconds_a_sample"]), found["memory"]
            if args.streaming_python:
                command = [args.streaming_python, "-c", THEIRS, scratch, json.dumps(SHARES), str(BATCH)]
                theirs = min(theirs, run(command)["seconds_a_sample"])
    step = training_step(args.max_seq_len)
    print(f"{args.samples:,} samples of {args.max_seq_len} tokens, {len(SHARES)} streams, one process without workers")
    print(f"codelm                 {1 / ours:>10,.0f} samples/s of CPU time")
    if args.streaming_python:
        print(f"mosaicml-streaming     {1 / theirs:>10,.0f} samples/s   codelm / this: {theirs / ours:.2f}")
    print(f"a CPU training step    {1 / step:>10,.1f} samples/s   codelm / this: {step / ours:,.0f}")
    for kind, (first, last) in memory.items():
        print(f"{kind:<10} after 10 batches {first / 1024:.1f} MiB, after the epoch {last / 1024:.1f} MiB")


def run(command: list[str]) -> dict:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def write_shards(folder: Path, samples: int, length: int) -> None:
    rng = np.random.default_rng(0)
    for stream, share in SHARES.items():
        with ShardWriter(folder / "train" / stream, length, np.dtype(np.uint16), 1 << 24) as writer:
            for _ in range(int(samples * share)):
                # A document of some 400 tokens in the mean.
                row = rng.integers(2, VOCAB, length, dtype=np.uint16)
                row[rng.random(length) < 1 / 400] = EOS
                writer.write(row)


def dataset_of(folder: Path) -> MixtureDataset:
    readers = {stream: ShardReader(folder, "train", stream) for stream in SHARES}
    passes: dict[str, Passes] = {name: build_passes(name, reader.shard_samples, 17) for name, reader in readers.items()}
    identity = StreamIdentity(17, BATCH, readers["c"].max_seq_len, "", "train", SHARES)
    return MixtureDataset(readers, Order(build_schedule(SHARES, BATCH, 17), passes), identity)


def read_ours(folder: Path) -> dict:
    memory: dict[str, list[int]] = {"RssAnon": [], "RssFile": []}
    torch.set_num_threads(1)
    best = float("inf")
    for _ in range(2):
        iterator = iter(train_loader(dataset_of(folder), EOS, 0, 1, 0))
        next(iterator)
        started, seen = time.process_time(), 0
        for number, batch in enumerate(iterator):
            seen += len(batch["input_ids"])
            if number == 9:
                first = {kind: resident(kind) for kind in memory}
        best = min(best, (time.process_time() - started) / seen)
        memory = {kind: [first[kind], resident(kind)] for kind in memory}
    return {"seconds_a_sample": best, "memory": memory}


def resident(kind: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))


def training_step(length: int) -> float:
    """Seconds of wall time a sample takes in forward and backward on all cores; the fastest of three steps of two."""
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    config = ReplitCodeConfig(d_model=256, n_heads=4, n_layers=4, vocab_size=VOCAB, max_seq_len=length)
    model = ReplitCodeForCausalLM(config).train()
    batch = Collator(EOS)([torch.randint(2, VOCAB, (length,)) for _ in range(2)])
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        model(input_ids=batch["input_ids"], labels=batch["labels"]).loss.backward()
        best = min(best, time.perf_counter() - started)
    return best / 2


if __name__ == "__main__":
    main()
