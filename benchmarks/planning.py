"""The planner's predictions against runs that llm-foundry published: `python benchmarks/planning.py`.

`llm_foundry.csv` holds rows of the tables in scripts/train/benchmarking/README.md of mosaicml/llm-foundry (commit
061f2c7): MPT models with flash attention, FULL_SHARD, a vocabulary of 50,368. The planner predicts our trainer in the
same configuration. Takes two to ten minutes and no GPU.
"""

import csv
import sys
from pathlib import Path
from statistics import fmean

from codelm.config.train import TrainConfig
from codelm.train.planning.machine import Machine, gpus
from codelm.train.planning.plan import Plan, make_plan

SHAPES = {
    "125m": (768, 12, 12),
    "350m": (1024, 16, 24),
    "760m": (1536, 12, 24),
    "1b": (2048, 16, 24),
    "3b": (2560, 20, 32),
    "7b": (4096, 32, 32),
    "13b": (5120, 40, 40),
}
"""Width, heads, blocks."""


def published() -> list[dict[str, str]]:
    """The rows of the tables."""
    with Path(__file__).with_name("llm_foundry.csv").open() as file:
        return [*csv.DictReader(file)]


def name_of(row: dict[str, str]) -> str:
    """A row's name: device, devices, model, length, microbatch."""
    return f"{row['gpu']}-{row['gpus']}-{row['model']}-{row['seq_len']}-{row['microbatch']}"


def as_run(row: dict[str, str]) -> tuple[TrainConfig, Machine]:
    """The row as a run of ours; the nodes of their H100s had twice the network of those of their A100s."""
    width, heads, layers = SHAPES[row["model"]]
    settings = {
        "run_name": "published",
        "max_seq_len": int(row["seq_len"]),
        "tokenizer": {"path": "none"},
        "model": {
            "name": "replit_code",
            "d_model": width,
            "n_heads": heads,
            "n_layers": layers,
            "vocab_size": 50368,
            "attn_config": {"attn_impl": "flash"},
        },
        "train_data": {"path": "none"},
        "optimizer": {"name": "adamw", "lr": 1e-4},
        "max_duration": "100ba",
        "global_train_batch_size": int(row["global_batch"]),
        "device_train_microbatch_size": "auto",
        "precision": "amp_bf16",
        "fsdp_config": {"mixed_precision": row["mixed_precision"]},
        "activation_checkpointing": row["recompute"] == "1",
        "save_folder": "none",
        "save_interval": "100ba",
    }
    config = TrainConfig.model_validate(settings)
    # Some of their batches are no multiple of the microbatch, which the YAML would have to be.
    config = config.model_copy(update={"device_train_microbatch_size": int(row["microbatch"])})
    network = 50e9 if row["gpu"] == "h100" else 25e9
    return config, gpus(row["gpu"], int(row["gpus"]), 8, network, None)


def predicted(row: dict[str, str]) -> tuple[Plan, float]:
    """The plan, and how far its tokens/s are off: 0.1 for 10 % too many."""
    config, machine = as_run(row)
    plan = make_plan(config, machine, search=False)
    return plan, plan.tokens_per_second / plan.devices / float(row["tokens_per_second_per_gpu"]) - 1


def main() -> None:
    errors: dict[str, list[float]] = {}
    print("| GPUs | model | length | microbatch | recomputed | GB predicted | tokens/s/GPU | predicted | |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in published():
        plan, error = predicted(row)
        errors.setdefault(row["gpu"], []).append(abs(error))
        print(
            f"| {row['gpus']} {row['gpu']} | {row['model']} | {int(row['seq_len']):,} | {row['microbatch']}"
            f" | {'yes' if row['recompute'] == '1' else ''} | {plan.memory.total / 1e9:.1f}"
            f" | {int(row['tokens_per_second_per_gpu']):,} | {plan.tokens_per_second / plan.devices:,.0f}"
            f" | {error:+.0%} |",
            flush=True,
        )
    for gpu, found in errors.items():
        print(f"{gpu}: {len(found)} rows, {fmean(found):.1%} off on average, at most {max(found):.1%}", file=sys.stderr)


if __name__ == "__main__":
    main()
