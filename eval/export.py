"""Export a checkpoint for other programs: `python eval/export.py CHECKPOINT --to transformers -o OUT`."""

import argparse
from pathlib import Path

from codelm.console import setup_logging
from codelm.errors import CheckpointError, exit_on_error


@exit_on_error
def main() -> None:
    args = _parse()
    setup_logging()
    if args.output.exists():
        raise CheckpointError(f"{args.output} already exists; name another folder or remove it")

    # torch and transformers take seconds to import: only once the command line is known to be good.
    import torch

    from codelm.export.transformers_folder import export_transformers

    exported = export_transformers(args.checkpoint, args.output, getattr(torch, args.dtype) if args.dtype else None)
    print(f"parity: {exported.parity.sentence()}")
    if exported.mismatch is not None:
        print(f"tokenizer: {exported.mismatch.sentence()}")
    print(f"exported: {exported.folder} ({exported.parameters:,} parameters)")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write a checkpoint as a folder that loads in transformers without codelm, and check that it "
        "computes the same. Exit code 2: the checkpoint cannot be exported; 1: the machine failed.",
    )
    parser.add_argument(
        "checkpoint", help="a checkpoint folder, a run's save_folder (its latest), or any causal language model"
    )
    parser.add_argument("--to", choices=("transformers",), default="transformers", help="the format (%(default)s)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write; it must not exist")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights; default: as they are"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
