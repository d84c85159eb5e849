"""The whole preparation of a corpus, all stages on, on one core: MB of source a second, and peak memory as it grows.

Every folder in CORPUS is a repository. A tenth of the folders and all of them are prepared by processes of their own
with one worker, filters, licences, secrets, near duplicates, decontamination, tokenising and packing included, with a
tokenizer that exists. MB are those of the files that are read; seconds are CPU time, by stage.

    python benchmarks/pipeline.py CORPUS --tokenizer runs/quickstart/data/tokenizer
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from codelm.config.data import DataConfig
from codelm.data.prepare import prepare
from codelm.data.stages.progress import LISTING

LEAST_SPEED, MOST_GROWTH = 2.5, 1.2


def main() -> None:
    args = parse()
    if args.worker:
        print(json.dumps(measure(args)))
        return
    packages = sorted(entry.name for entry in os.scandir(args.corpus) if entry.is_dir())
    # Every tenth by size, so that both parts hold small and large ones.
    by_size = sorted(packages, key=lambda name: (size_of(Path(args.corpus) / name), name))
    part = by_size[args.part // 2 :: args.part]
    found = {}
    for name, chosen in (("part", part), ("all", packages)):
        found[name] = run(args, chosen)
        report(name, len(chosen), found[name])
    growth = found["all"]["peak_mb"] / found["part"]["peak_mb"]
    times = found["all"]["read_mb"] / found["part"]["read_mb"]
    speed = found["all"]["read_mb"] / found["all"]["cpu_seconds"]
    print(f"\nspeed {speed:.2f} MB/s/core (mark: {LEAST_SPEED})")
    print(f"a corpus of {times:.1f} times the size takes {growth:.2f} times the memory (mark: {MOST_GROWTH})")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", help="a folder of folders of source code")
    parser.add_argument("--tokenizer", required=True, help="a folder with spiece.model")
    parser.add_argument("--part", type=int, default=10, help="compare with one in so many folders (default 10)")
    parser.add_argument("--worker", nargs="*", help=argparse.SUPPRESS)
    return parser.parse_args()


def size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


def run(args: argparse.Namespace, packages: list[str]) -> dict:
    command = [sys.executable, __file__, args.corpus, "--tokenizer", args.tokenizer, "--worker", *packages]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(result.stdout.splitlines()[-1])


def measure(args: argparse.Namespace) -> dict:
    sources = {
        f"package-{number:04}": {"path": str(Path(args.corpus) / package), "repository": package}
        for number, package in enumerate(args.worker)
    }
    stages: dict[str, float] = {}
    read = 0
    last = time.process_time()

    def progress(stage: str, done: int, total: int | None) -> None:
        nonlocal last, read
        now = time.process_time()
        stages[stage] = stages.get(stage, 0.0) + now - last
        last = now
        if stage == "clean" and total is not None:
            read = total

    with tempfile.TemporaryDirectory() as folder:
        config = DataConfig.model_validate(
            {
                "run_name": "benchmark",
                "sources": sources,
                "tokenizer": {"path": args.tokenizer},
                "max_seq_len": 2048,
                "output_folder": f"{folder}/data",
                "num_workers": 1,
            }
        )
        prepared = prepare(config, progress)
    train = prepared.manifest.splits["train"]
    return {
        "stages": {stage: seconds for stage, seconds in stages.items() if seconds > 0.05 or stage == LISTING},
        "read_mb": read / 1e6,
        "kept_mb": sum(stream.bytes for stream in train.values()) / 1e6,
        "cpu_seconds": time.process_time(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
    }


def report(name: str, packages: int, found: dict) -> None:
    print(
        f"{name}: {packages} repositories, {found['read_mb']:.1f} MB read, {found['kept_mb']:.1f} MB kept for training,"
        f" {found['cpu_seconds']:.1f} s of CPU, {found['read_mb'] / found['cpu_seconds']:.2f} MB/s,"
        f" peak {found['peak_mb']:.0f} MB"
    )
    for stage, seconds in found["stages"].items():
        print(f"  {stage:<18}{seconds:>8.1f} s{found['read_mb'] / max(seconds, 1e-9):>10.1f} MB/s")


if __name__ == "__main__":
    main()
