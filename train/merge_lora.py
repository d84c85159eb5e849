"""Merge adapters into the model below them: `python train/merge_lora.py CHECKPOINT -o OUT`.

OUT is a plain transformers folder, with the base's weights in their own precision (also where they were trained on in
8 or 4 bits) plus the adapters. Evaluation and export take the checkpoint as it is and merge by themselves.
"""

import argparse
from pathlib import Path

from codelm.console import setup_logging
from codelm.errors import CheckpointError, exit_on_error
from codelm.startup import many_imports


@exit_on_error
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint with adapters, a run's save_folder, or a folder of peft's")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write; it must not exist")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights; default: as is")
    arguments = parser.parse_args()
    if arguments.output.exists():
        raise CheckpointError(f"{arguments.output} already exists; name another folder or remove it")
    setup_logging()

    # torch and transformers take seconds to import: only once the command line is known to be good.
    with many_imports():
        import torch

        from codelm.model.adapters import base_of, holds_adapters
        from codelm.model.lineage import lineage, write_lineage
        from codelm.model.pretrained import checkpoint_folder, load, save_transformers

    folder = checkpoint_folder(arguments.checkpoint)
    if not holds_adapters(folder):
        raise CheckpointError(f"{folder} holds no adapters to merge")
    model, _ = load(folder, dtype=getattr(torch, arguments.dtype) if arguments.dtype else None)
    save_transformers(model, model.config, folder, arguments.output)
    write_lineage(arguments.output, lineage(folder))
    print(f"merged {folder} into {base_of(folder)}: {arguments.output}")


if __name__ == "__main__":
    main()
