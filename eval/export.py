"""Export a checkpoint for other programs: `python eval/export.py CHECKPOINT --to transformers|gguf|all -o OUT`."""

import argparse
from pathlib import Path

from codelm.console import setup_logging
from codelm.errors import CheckpointError, exit_on_error
from codelm.startup import many_imports


@exit_on_error
def main() -> None:
    args = _parse()
    setup_logging()
    if args.output.exists():
        raise CheckpointError(f"{args.output} already exists; name another folder or remove it")

    # torch and transformers take seconds to import: only once the command line is known to be good.
    with many_imports():
        import torch

        from codelm.export.export import FORMATS, export

    exported = export(
        args.checkpoint,
        args.output,
        FORMATS if args.to == "all" else (args.to,),
        dtype=getattr(torch, args.dtype) if args.dtype else None,
        gguf_type=args.gguf_type,
        fim=args.fim,
        base=args.base,
        evaluation=args.evaluation,
    )
    for name, sentences in exported.measured.items():
        for sentence in sentences:
            print(f"{name}: {sentence}")
    print(f"exported: {exported.folder}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Write a checkpoint for programs without codelm, with a model card, and check that it computes the "
        "same there: a folder for transformers, or a GGUF file with a Modelfile for llama.cpp and Ollama. "
        "Exit code 2: the checkpoint cannot be exported; 1: the machine failed.",
    )
    parser.add_argument(
        "checkpoint", help="a checkpoint folder, a run's save_folder (its latest), or any causal language model"
    )
    parser.add_argument(
        "--to",
        choices=("transformers", "gguf", "all"),
        default="transformers",
        help="the format (%(default)s); all writes OUT/transformers and OUT/gguf",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="the folder to write; it must not exist")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights for transformers; default: as is"
    )
    parser.add_argument(
        "--gguf-type",
        choices=("f16", "q8_0"),
        default="f16",
        help="of the weights for GGUF: f16 (default), or q8_0, half its size and a little less exact",
    )
    parser.add_argument(
        "--fim",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the model was (not) trained to fill gaps, which decides the Modelfile; default: what its run recorded",
    )
    parser.add_argument(
        "--base", metavar="MODEL", help="what the model descends from, where its records do not say, for the licence"
    )
    parser.add_argument(
        "--evaluation", type=Path, metavar="FOLDER", help="output_folder of an evaluation to show; default: look nearby"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
