"""The whole preparation of a corpus, all stages on, on one core: MB of source a second, and peak memory as it grows.

Every folder in CORPUS is a repository. All of them and a part are prepared by processes of their own with one worker,
filters, licences, secrets, near duplicates, decontamination, tokenising and packing included, with a tokenizer that
exists. MB are those of the files that are read; seconds are CPU time, by stage.

A file is held in memory as a whole, and SentencePiece takes some 200 bytes a token while it encodes one, so that the
file of the most tokens decides how high the peak is, and whether a corpus has such a file is chance. The question is
what more files do. The part therefore is every tenth folder by size, and besides the one with the file of the most
tokens that is kept of the whole corpus: both encode that file.

    python benchmarks/pipeline.py CORPUS --tokenizer runs/quickstart/data/tokenizer
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from codelm.config.data import DataConfig
from codelm.data.packing.pack import DOCUMENTS_FILE
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
    found = {"all": run(args, packages)}
    report("all", len(packages), found["all"])
    part = sorted({*by_size[args.part // 2 :: args.part], found["all"]["largest"]["repository"]})
    found["part"] = run(args, part)
    report("part", len(part), found["part"])
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
    peaks: dict[str, float] = {}
    read = 0
    last = time.process_time()

    def progress(stage: str, done: int, total: int | None) -> None:
        nonlocal last, read
        now = time.process_time()
        stages[stage] = stages.get(stage, 0.0) + now - last
        peaks[stage] = max(peaks.get(stage, 0.0), peak_since_last_asked())
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
        cpu_seconds = time.process_time()
        largest = file_of_most_tokens(prepared.folder)
    train = prepared.manifest.splits["train"]
    return {
        "largest": largest,
        "stages": {stage: seconds for stage, seconds in stages.items() if seconds > 0.05 or stage == LISTING},
        "read_mb": read / 1e6,
        "kept_mb": sum(stream.bytes for stream in train.values()) / 1e6,
        "cpu_seconds": cpu_seconds,
        "peaks": peaks,
        "peak_mb": max(peaks.values()),
    }


def peak_since_last_asked() -> float:
    """The most memory in MB that was resident since the last call: Linux keeps the mark, and takes it down."""
    marks = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    Path("/proc/self/clear_refs").write_text("5")
    return int(marks["VmHWM"].split()[0]) * 1024 / 1e6


def file_of_most_tokens(folder: Path) -> dict:
    """Its line in a list of documents."""
    lines = (json.loads(line) for file in folder.rglob(DOCUMENTS_FILE) for line in file.open(encoding="utf-8"))
    return max(lines, key=lambda fields: (fields["tokens"], fields["path"]))


def report(name: str, packages: int, found: dict) -> None:
    print(
        f"{name}: {packages} repositories, {found['read_mb']:.1f} MB read, {found['kept_mb']:.1f} MB kept for training,"
        f" {found['cpu_seconds']:.1f} s of CPU, {found['read_mb'] / found['cpu_seconds']:.2f} MB/s,"
        f" peak {found['peak_mb']:.0f} MB, most tokens in a file {found['largest']['tokens']:,}"
        f" ({found['largest']['repository']}, {found['largest']['bytes'] / 1e3:.0f} kB)"
    )
    for stage, seconds in found["stages"].items():
        speed, peak = found["read_mb"] / max(seconds, 1e-9), found["peaks"][stage]
        print(f"  {stage:<18}{seconds:>8.1f} s{speed:>10.1f} MB/s{peak:>8.0f} MB")


if __name__ == "__main__":
    main()
