"""Time from command to the first training step, and the peak memory of it, against the imports that it rests on.

    python benchmarks/startup.py [--repetitions 3]

The floor is a process that imports torch, transformers and Composer and ends. Needs runs/quickstart/data (`make
quickstart`, or `python data_prep/main.py yamls/quickstart/data.yaml`).
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
IMPORTS = [sys.executable, "-c", "import torch, transformers, composer"]
TRAIN = ["train/main.py", "yamls/quickstart/train.yaml", "eval_first=false", "callbacks.code_eval=null"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each, interleaved (default %(default)s)")
    repetitions = parser.parse_args().repetitions
    if not (ROOT / "runs/quickstart/data/manifest.json").exists():
        sys.exit("prepare the data first: python data_prep/main.py yamls/quickstart/data.yaml")
    commands = {
        "imports alone": (IMPORTS, None),
        "python train/main.py": ([sys.executable, *TRAIN], "batch 1/"),
        "composer train/main.py": ([sys.executable, "-m", "composer.cli.launcher", "-n", "1", *TRAIN], "batch 1/"),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for _ in range(repetitions):
        for name, (command, line) in commands.items():
            measured[name].append(measure(command, line))
    floor = statistics.median(seconds for seconds, _ in measured["imports alone"])
    floor_memory = statistics.median(memory for _, memory in measured["imports alone"])
    print(f"{'':24} {'to first step':>14} {'ratio':>6} {'peak memory':>12} {'ratio':>6}")
    for name, runs in measured.items():
        seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
        print(f"{name:24} {seconds:12.1f} s {seconds / floor:6.2f} {memory / 1e6:9.0f} MB {memory / floor_memory:6.2f}")


def measure(command: list[str], line: str | None) -> tuple[float, float]:
    """Seconds until the process prints `line` (or ends), and the peak resident bytes of it and its children."""
    folder = Path(tempfile.mkdtemp())
    arguments = [*command, f"save_folder={folder / 'checkpoints'}"] if line else command
    began = time.monotonic()
    process = subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peak, seconds = 0.0, None
    assert process.stderr is not None
    os.set_blocking(process.stderr.fileno(), False)
    said = b""
    while process.poll() is None and seconds is None:
        peak = max(peak, resident(process.pid))
        said += process.stderr.read() or b""
        if line is not None and line.encode() in said:
            seconds = time.monotonic() - began
        time.sleep(0.01)
    for child in [*psutil.Process().children(recursive=True)]:
        child.kill()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
    return seconds or time.monotonic() - began, peak


def resident(pid: int) -> float:
    """Resident bytes of a process and its descendants."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            total += process.memory_info().rss
    except psutil.Error:
        pass
    return total


if __name__ == "__main__":
    main()
